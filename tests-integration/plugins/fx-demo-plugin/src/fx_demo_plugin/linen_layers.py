"""Maxout for Linen."""

import fx_linen as nn
import jax
import jax.numpy as jnp

from fx_demo_plugin.ops import maxout


class Maxout(nn.Module):
    """Maximum of several affine maps; counts in the collection ``demo.usage`` which of them wins.

    Attributes:
      features: size of the last axis of the output.
      pieces: how many maps.
    """

    features: int
    pieces: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``x`` of shape ``(..., inputs)`` to ``(..., features)``."""
        kernel = self.param("kernel", jax.nn.initializers.lecun_normal(), (x.shape[-1], self.pieces, self.features))
        bias = self.param("bias", jax.nn.initializers.zeros, (self.pieces, self.features))
        usage = self.variable("demo.usage", "counts", jnp.zeros, (self.pieces,))
        out, wins = maxout(x, kernel, bias)
        if self.is_mutable_collection("demo.usage") and not self.is_initializing():
            usage.value = usage.value + wins
        return out
