"""stack_equal: a loop over equal pieces of state that stay where they are."""

# JAX's own signatures are partly unknown to the checker; errors about our code stay on.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fx_transforms.carrier import Carrier, Groups, Outcome, run
from fx_transforms.errors import transform_output

__all__ = ["stack_equal"]


def stack_equal(
    fn: Callable[[Any, Any], Any], carrier: Carrier[Any], handles: Sequence[Any], x: Any, *, unroll: int = 1
) -> Any:
    """Calls ``x = fn(inner, x)`` for each of several handles, as one loop of JAX.

    The arrays of the handles are stacked before the loop, and what changed is taken apart after it, so the function is
    traced, lowered and compiled once.

    Args:
      fn: function of the merged state and of what is handed on.
      carrier: what splits and merges the state.
      handles: what is split.
      x: what is handed on.
      unroll: steps per iteration of the compiled loop.

    Returns:
      What the last call returned.

    Raises:
      TransformError: the handles differ in their structure, or in shapes or dtypes of their arrays.

    >>> import jax.numpy as jnp
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scopes = [fx_core.Scope({"params": {"scale": jnp.array(scale)}}, {}) for scale in (2.0, 3.0)]
    >>> layer = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> float(fx_transforms.stack_equal(layer, carrier, scopes, jnp.array(1.0)))
    6.0
    """
    shape, first = carrier.split(handles[0])
    parts = [first]
    for number, handle in enumerate(handles[1:], 1):
        other, groups = carrier.split(handle)
        if other != shape or _types(groups) != _types(first):
            raise transform_output(
                "stack_equal", "layers that are equal but for the values in them", f"layer {number}, unlike layer 0"
            )
        parts.append(groups)

    def step(x: Any, groups: Groups) -> tuple[Any, tuple[Any, Groups]]:
        outcome: Outcome = run(carrier, fn, shape, groups, x)
        return outcome.out, (outcome.shape, outcome.groups)

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    x, (after, groups) = jax.lax.scan(step, x, stacked, unroll=unroll)
    for number, handle in enumerate(handles):
        carrier.absorb(handle, after, jax.tree.map(lambda leaf, i=number: leaf[i], groups), ())
    return x


def _types(groups: Groups) -> Any:
    leaves, treedef = jax.tree.flatten(groups)
    return treedef, [(jnp.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else type(leaf)) for leaf in leaves]
