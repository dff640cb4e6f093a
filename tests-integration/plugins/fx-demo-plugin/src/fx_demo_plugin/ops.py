"""The arithmetic of maxout, once for both faces."""

import jax
import jax.numpy as jnp


def maxout(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maximum of several affine maps (Goodfellow et al., Maxout Networks, 2013).

    Args:
      x: ``(..., inputs)``.
      kernel: ``(inputs, pieces, features)``.
      bias: ``(pieces, features)``.

    Returns:
      The maxima, ``(..., features)``, and how often each piece won, ``(pieces,)``.
    """
    pieces = jnp.einsum("...i,ipf->...pf", x, kernel)
    pieces = pieces + jnp.broadcast_to(bias, pieces.shape)
    winners = jax.nn.one_hot(jnp.argmax(pieces, axis=-2), kernel.shape[1], dtype=jnp.float32)
    return jnp.max(pieces, axis=-2), jnp.sum(winners, axis=tuple(range(winners.ndim - 1)))
