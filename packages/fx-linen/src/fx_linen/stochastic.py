"""Layers that use random numbers when they are applied."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from fx_core.ops import dropout

from fx_linen.module import Module, compact, merge_param

__all__ = ["Dropout"]


class Dropout(Module):
    """A layer that sets a random part of the values to zero while training: `fx_core.ops.dropout.dropout`.

    Srivastava et al., *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*, 2014.

    Attributes:
      rate: probability to drop a value.
      broadcast_dims: axes along which values are dropped together.
      deterministic: True leaves the inputs alone; given here or in the call.
      rng_collection: the RNG stream to use.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> drop = nn.Dropout(0.5, deterministic=False)
    >>> y = drop.apply({}, jnp.ones(100), rngs={"dropout": jax.random.key(0)})
    >>> sorted({float(value) for value in y})
    [0.0, 2.0]
    """

    rate: float
    broadcast_dims: Sequence[int] = ()
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    @compact
    def __call__(self, inputs: jax.Array, deterministic: bool | None = None, rng: jax.Array | None = None) -> jax.Array:
        """Drops values.

        Args:
          inputs: any shape.
          deterministic: whether to leave the inputs alone, if the constructor did not say.
          rng: a key to use instead of the stream.

        Returns:
          An array like the inputs.

        Raises:
          ArgumentError: the rate is not a probability.
        """
        deterministic = merge_param("deterministic", self.deterministic, deterministic)
        dropout.check_rate(self.rate)
        if self.rate == 0.0 or deterministic:
            return inputs
        if self.rate == 1.0:  # needs no key
            return jnp.zeros_like(inputs)
        key = self.make_rng(self.rng_collection) if rng is None else rng
        return dropout.dropout(inputs, self.rate, key, self.broadcast_dims)
