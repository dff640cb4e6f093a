"""Dropout: zeroing random values and scaling the rest."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.errors.kinds import ArgumentError
from fx_core.errors.ops import invalid_axes

__all__ = ["check_rate", "dropout", "keep_mask"]


def check_rate(rate: Any) -> None:
    """Makes sure that a dropout rate is a probability.

    Raises:
      ArgumentError: it is not between 0 and 1.
    """
    if not 0.0 <= rate <= 1.0:
        raise ArgumentError(
            "A dropout rate is the probability to drop a value.",
            expected="a number between 0 and 1",
            got=rate,
            fix="divide by 100 if the rate is in percent",
        )


def keep_mask(key: jax.Array, keep_prob: float, shape: Sequence[int], broadcast_dims: Sequence[int] = ()) -> jax.Array:
    """Draws which values are kept.

    Args:
      key: PRNG key.
      keep_prob: probability of True.
      shape: shape of the values.
      broadcast_dims: axes along which all values share one draw; the mask has size 1 there.

    Returns:
      Booleans that broadcast to ``shape``.

    Raises:
      ShapeMismatchError: a dimension is outside the shape.
    """
    drawn = list(shape)
    if any(not -len(drawn) <= dim < len(drawn) for dim in broadcast_dims):
        raise invalid_axes("broadcast_dims", broadcast_dims, len(drawn))
    for dim in broadcast_dims:
        drawn[dim] = 1
    return jax.random.bernoulli(key, p=keep_prob, shape=tuple(drawn))


def dropout(inputs: jax.Array, rate: float, key: jax.Array, broadcast_dims: Sequence[int] = ()) -> jax.Array:
    """Sets a random part of the values to zero and scale the others so that the expectation stays.

    Srivastava et al., *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*, 2014.

    Args:
      inputs: floating point, any shape.
      rate: probability to drop a value. 0 returns the inputs, 1 zeros, both without drawing.
      key: PRNG key.
      broadcast_dims: axes along which values are dropped together.

    Returns:
      An array like ``inputs``.

    Raises:
      ArgumentError: the rate is not between 0 and 1.

    >>> import jax, jax.numpy as jnp
    >>> dropout(jnp.ones(4), 0.5, jax.random.key(1))
    Array([2., 0., 2., 2.], dtype=float32)
    """
    check_rate(rate)
    if rate == 0.0:
        return inputs
    if rate == 1.0:  # keeps gradients free of 0/0
        return jnp.zeros_like(inputs)
    keep_prob = 1.0 - rate
    mask = jnp.broadcast_to(keep_mask(key, keep_prob, inputs.shape, broadcast_dims), inputs.shape)
    sharding = getattr(jax.typeof(inputs), "sharding", None)
    if sharding is not None and any(axis is not None for axis in sharding.spec):  # the type of the inputs names axes
        mask = jax.sharding.reshard(mask, sharding)
    return lax.select(mask, inputs / keep_prob, jnp.zeros_like(inputs))
