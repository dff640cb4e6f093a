"""Everything of JAX that is private, experimental or moves between versions, in one place.

The rest of fx imports such things from here, so that a new JAX release is looked at in one file.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.extend.core
import jax.extend.core.primitives
from jax.core import ShapedArray
from jax.experimental import checkify
from jax.interpreters import partial_eval

__all__ = [
    "ShapedArray",
    "checkify",
    "current_trace",
    "evaluate_jaxpr",
    "invariant_outputs",
    "prune_jaxpr",
    "weakly_typed",
]


def current_trace() -> object:
    """Token of the innermost trace: equal tokens mean the same trace, the absence of one included."""
    return jax.extend.core.get_opaque_trace_state()


def weakly_typed(array: jax.Array) -> jax.Array:
    """The same array with JAX's weak type, as results of arithmetic with Python numbers have it."""
    primitive = jax.extend.core.primitives.convert_element_type_p
    return primitive.bind(array, new_dtype=array.dtype, weak_type=True, sharding=None)


def prune_jaxpr(jaxpr: Any, wanted: Sequence[bool]) -> tuple[Callable[..., list[Any]], list[bool]]:
    """Leave out of a (closed) jaxpr what its wanted outputs do not need.

    Returns:
      A function of the inputs still needed to the wanted outputs, which runs operation by operation, and which of the
      inputs these are.
    """
    pruned, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, list(wanted))
    return lambda *inputs: jax.core.eval_jaxpr(pruned, jaxpr.consts, *inputs), list(used)


def invariant_outputs(closed: Any, known: Sequence[Any], count: int) -> list[tuple[bool, Any]]:
    """Evaluate the first outputs of a (closed) jaxpr from its first inputs alone.

    Printing inside does not count as a need for inputs.

    Returns:
      for each of the ``count`` outputs whether the known inputs suffice, and the value if they suffice for all.
    """
    quiet = [eqn for eqn in closed.jaxpr.eqns if eqn.outvars or not eqn.effects]
    jaxpr = closed.jaxpr.replace(eqns=quiet)
    total = len(jaxpr.outvars)
    pruned, used = partial_eval.dce_jaxpr(jaxpr, [i < count for i in range(total)])
    if not any(used[len(known) :]):
        values = jax.core.eval_jaxpr(pruned, closed.consts, *(x for x, needed in zip(known, used) if needed))
        return [(True, value) for value in values]
    needs = [partial_eval.dce_jaxpr(jaxpr, [i == n for i in range(total)])[1] for n in range(count)]
    return [(not any(need[len(known) :]), None) for need in needs]


def evaluate_jaxpr(closed: Any, *args: Any) -> list[Any]:
    """Run a (closed) jaxpr."""
    return jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *args)
