"""Maxout for NNX."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp

from fx_demo_plugin.ops import maxout
from fx_demo_plugin.variables import Usage


class Maxout(nnx.Module):
    """Maximum of several affine maps; counts which of them wins.

    Args:
      inputs: size of the last axis of the input.
      features: size of the last axis of the output.
      pieces: how many maps.
      rngs: source of the key for the kernel.
    """

    def __init__(self, inputs: int, features: int, pieces: int = 2, *, rngs: nnx.Rngs):
        initializer = jax.nn.initializers.lecun_normal()
        self.kernel = nnx.Param(initializer(rngs.params(), (inputs, pieces, features)))
        self.bias = nnx.Param(jnp.zeros((pieces, features)))
        self.usage = Usage(jnp.zeros(pieces))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map ``x`` of shape ``(..., inputs)`` to ``(..., features)``."""
        out, wins = maxout(x, self.kernel[...], self.bias[...])
        self.usage[...] = self.usage[...] + wins
        return out
