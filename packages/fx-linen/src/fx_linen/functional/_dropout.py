"""Dropout of a scope."""

from collections.abc import Sequence

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
    broadcast_dims: Sequence[int] = (),
    rng_collection: str = "dropout",
) -> jax.Array:
    """Set a random part of the values to zero, see `fx_linen.Dropout`.

    Args:
      scope: gives the key.
      inputs: any shape.
      rate: probability to drop a value.
      deterministic: whether to leave the inputs alone.
      broadcast_dims: axes along which values are dropped together.
      rng_collection: RNG stream to draw from.

    Returns:
      An array like the inputs.

    Raises:
      DropoutRateError: the rate is not a probability.
    """
    dropout_ops.check_rate(rate)
    if rate == 0.0 or deterministic:
        return inputs
    if rate == 1.0:
        return jnp.zeros_like(inputs)
    return dropout_ops.dropout(inputs, rate, scope.make_rng(rng_collection), broadcast_dims)
