"""The arithmetic of a mixture of experts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Routes(NamedTuple):
    """Where tokens go.

    Attributes:
      weights: of the experts for each token, (..., experts); zero where an expert is not used.
      load: which part of the tokens each expert got, (experts,).
      balance: a loss that is least, namely 1, where all experts get the same.
    """

    weights: jax.Array
    load: jax.Array
    balance: jax.Array


def route(logits: jax.Array, top: int) -> Routes:
    """Choose the experts of each token (Fedus et al., Switch Transformers, 2021).

    Args:
      logits: (..., experts).
      top: how many experts a token uses.
    """
    experts = logits.shape[-1]
    chances = jax.nn.softmax(logits.astype(jnp.float32))
    _, chosen = jax.lax.top_k(chances, top)
    used = jax.nn.one_hot(chosen, experts).sum(-2)
    weights = chances * used
    weights = weights / weights.sum(-1, keepdims=True)
    tokens = tuple(range(logits.ndim - 1))
    load = used.mean(tokens) / top
    return Routes(weights.astype(logits.dtype), load, experts * jnp.sum(load * chances.mean(tokens)))


def mix(x: jax.Array, weights: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """Apply the experts and add up what they give.

    Every expert sees every token: simple, and right for few experts on one device.

    Args:
      x: (..., inputs).
      weights: (..., experts).
      up: (experts, inputs, hidden).
      down: (experts, hidden, features).

    Returns:
      (..., features).
    """
    hidden = jax.nn.gelu(jnp.einsum("...i,eih->...eh", x, up))
    return jnp.einsum("...eh,ehf,...e->...f", hidden, down, weights)
