"""Everything of JAX that is private, experimental or moves between versions, in one place.

The rest of fx imports such things from here, so that a new JAX release is looked at in one file.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.extend.core
import jax.extend.core.primitives
import jax.extend.linear_util
from jax.core import ShapedArray
from jax.extend.core import Jaxpr, Literal
from jax.interpreters import partial_eval

__all__ = [
    "DividedJaxpr",
    "ShapedArray",
    "closed_jaxpr",
    "current_trace",
    "divide_jaxpr",
    "known_outputs",
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


def closed_jaxpr(fn: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """Trace a function: its jaxpr with constants, and the shapes of its result."""
    return jax.make_jaxpr(fn, return_shape=True)(*args)


class DividedJaxpr(NamedTuple):
    """A traced function in two parts.

    Attributes:
      known_outputs: one entry per output, its value where it is known.
      known_mask: for each output, whether it is known.
      rest: function of the unknown inputs that gives all outputs.
      rest_avals: types of those inputs.
    """

    known_outputs: list[Any]
    known_mask: list[bool]
    rest: Callable[..., list[Any]]
    rest_avals: list[Any]


def divide_jaxpr(closed: Any, known_args: Sequence[Any]) -> DividedJaxpr:
    """Evaluate those operations of a traced function that only need its first arguments, and keep the others.

    Operations with effects are never evaluated here: how often they happen is part of their meaning.
    """
    jaxpr, consts = closed.jaxpr, list(closed.consts)
    constvars = list(jaxpr.constvars)
    if len(constvars) != len(consts):  # JAX 0.12 keeps constants as the first of all inputs
        constvars = list(jaxpr.all_invars[: len(consts)])
    invars = list(jaxpr.invars)
    known_in, unknown_in = [*constvars, *invars[: len(known_args)]], invars[len(known_args) :]
    known: set[Any] = set(known_in)
    now: list[Any] = []
    later: list[Any] = []
    for eqn in jaxpr.eqns:
        if not eqn.effects and all(isinstance(v, Literal) or v in known for v in eqn.invars):
            now.append(eqn)
            known.update(eqn.outvars)
        else:
            later.append(eqn)
    wanted = [*(v for eqn in later for v in eqn.invars), *jaxpr.outvars]
    crossing = list(dict.fromkeys(v for v in wanted if not isinstance(v, Literal) and v in known))
    names = jaxpr.debug_info.with_unknown_names()
    first = Jaxpr([], known_in, crossing, now, debug_info=names)
    values = dict(zip(crossing, _evaluate(first, [*consts, *known_args])))
    second = Jaxpr([], [*crossing, *unknown_in], jaxpr.outvars, later, jaxpr.effects, debug_info=names)

    def rest(*unknown: Any) -> list[Any]:
        return _evaluate(second, [*values.values(), *unknown])

    mask = [isinstance(v, Literal) or v in known for v in jaxpr.outvars]
    outputs = [v.val if isinstance(v, Literal) else values.get(v) for v in jaxpr.outvars]
    return DividedJaxpr(outputs, mask, rest, [v.aval for v in unknown_in])


def _evaluate(jaxpr: Any, args: Sequence[Any]) -> list[Any]:
    return jax.extend.core.jaxpr_as_fun(jax.extend.core.ClosedJaxpr(jaxpr, ()))(*args)


def known_outputs(fn: Callable[..., list[Any]], avals: Sequence[Any], which: Sequence[int]) -> list[tuple[bool, Any]]:
    """Evaluate those of the named outputs that do not depend on the arguments, looking inside nested calls.

    Returns:
      for each output whether it is independent, and its value.
    """
    closed = jax.make_jaxpr(lambda *args: [fn(*args)[i] for i in which])(*avals)
    wrapped = jax.extend.linear_util.wrap_init(
        jax.extend.core.jaxpr_as_fun(closed), debug_info=closed.jaxpr.debug_info.with_unknown_names()
    )
    unknown = [partial_eval.PartialVal.unknown(aval) for aval in closed.in_avals]
    _, outputs, _ = partial_eval.trace_to_jaxpr_nounits(wrapped, unknown, instantiate=False)
    return [(out.is_known(), out.get_known()) for out in outputs]
