"""Functions of modules repeated while a condition holds."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from fx_core.scope import CollectionFilter
from fx_transforms import lift

from fx_linen.transforms._direct import directly
from fx_linen.transforms.scan import C

__all__ = ["while_loop"]


def while_loop(
    cond_fn: Callable[[Any, C], Any],
    body_fn: Callable[[Any, C], C],
    mdl: Any,
    init: C,
    carry_variables: CollectionFilter = False,
    broadcast_variables: CollectionFilter = True,
    split_rngs: Mapping[Any, bool] = {},
) -> C:
    """Repeats ``body_fn(module, carry) -> carry`` while ``cond_fn(module, carry)`` holds; see `jax.lax.while_loop`.

    Variables are created before the loop; ``init`` of a network runs the body once instead.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Doubling(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         steps = self.variable("counts", "steps", lambda: 0)
    ...         def body(module, x):
    ...             steps = module.get_variable("counts", "steps")
    ...             module.put_variable("counts", "steps", steps + 1)
    ...             return 2 * x
    ...         if self.is_initializing():
    ...             return body(self, x)
    ...         return nn.while_loop(lambda _, x: x < 100, body, self, x, carry_variables="counts")
    >>> Doubling().apply({"counts": {"steps": 0}}, 1, mutable=["counts"])
    (Array(128, dtype=int32...), {'counts': {'steps': Array(7, dtype=int32...)}})

    Args:
      cond_fn: the condition.
      body_fn: the body.
      mdl: a module.
      init: the first carry.
      carry_variables: collections that a step takes from the one before.
      broadcast_variables: collections that all steps read.
      split_rngs: for each filter of streams whether step i folds i into the keys.

    Returns:
      The last carry.

    Raises:
      CarryChangedError: the carry, or a carried variable, changes its structure, shape or dtype.
      CollectionNotLiftedError: a collection that no argument names is used.
      RngNotLiftedError: a function uses an RNG stream that ``split_rngs`` does not name.
    """
    loop = functools.partial(
        lift.while_loop,
        carry_variables=carry_variables,
        broadcast_variables=broadcast_variables,
        split_rngs=split_rngs,
    )
    return directly(loop, (cond_fn, body_fn), mdl, init)
