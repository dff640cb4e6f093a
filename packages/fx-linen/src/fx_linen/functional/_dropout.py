"""Dropout of a scope."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import dropout as dropout_ops
from fx_core.scope import Scope

__all__ = ["dropout"]


def dropout(
    scope: Scope,
    inputs: jax.Array,
    rate: float,
    deterministic: bool = False,
    rng: Any = None,
    *,
    broadcast_dims: Sequence[int] = (),
    rng_collection: str = "dropout",
) -> jax.Array:
    """Sets a random part of the values to zero, see `fx_linen.Dropout`.

    Args:
      scope: gives the key.
      inputs: any shape.
      rate: probability to drop a value.
      deterministic: whether to leave the inputs alone.
      rng: key to draw with; None takes one from the scope.
      broadcast_dims: axes along which values are dropped together.
      rng_collection: the RNG stream to use.

    Returns:
      An array like the inputs.

    Raises:
      ArgumentError: the rate is not a probability.
    """
    dropout_ops.check_rate(rate)
    if rate == 0.0 or deterministic:
        return inputs
    if rate == 1.0:
        return jnp.zeros_like(inputs)
    key = scope.make_rng(rng_collection) if rng is None else rng
    return dropout_ops.dropout(inputs, rate, key, broadcast_dims)
