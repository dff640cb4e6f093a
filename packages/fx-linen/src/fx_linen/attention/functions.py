"""Attention as functions, on the arithmetic of `fx_core.ops.attention`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from fx_core.ops import attention
from fx_core.typing import Dtype, PrecisionLike

from fx_linen.module import Module

__all__ = ["dot_product_attention", "dot_product_attention_weights"]


def dot_product_attention_weights(
    query: jax.Array,
    key: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    broadcast_dropout: bool = True,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: Dtype | None = None,
    precision: PrecisionLike = None,
    module: Module | None = None,
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Callable[..., jax.Array] | None = None,
    einsum: Callable[..., jax.Array] | None = None,
) -> jax.Array:
    """Computes how much each query attends to each key: `fx_core.ops.attention.dot_product_attention_weights`.

    Args:
      query: shape ``(*batch, queries, heads, depth)``.
      key: shape ``(*batch, keys, heads, depth)``.
      bias: added to the logits; broadcasts to ``(*batch, heads, queries, keys)``.
      mask: nonzero where a query may see a key; broadcasts likewise.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rng: PRNG key for dropout.
      dropout_rate: probability to drop a weight.
      deterministic: drop nothing.
      dtype: dtype of the computation (default: inferred from the arguments).
      precision: of the multiplication, see `jax.lax.Precision`.
      module: sows the weights as ``attention_weights`` into ``intermediates``.
      force_fp32_for_softmax: take the softmax, and return weights, in float32.
      einsum_dot_general: replaces `jax.lax.dot_general` within the einsum.
      einsum: replaces the einsum; called with equation, query and key.

    Returns:
      Weights of shape ``(*batch, heads, queries, keys)``.

    Raises:
      ArgumentError: one of its subclasses, see the function of `fx_core.ops`.

    >>> import jax.numpy as jnp, fx_linen as nn
    >>> nn.dot_product_attention_weights(jnp.ones((1, 1, 8)), jnp.ones((2, 1, 8)))
    Array([[[0.5, 0.5]]], dtype=float32)
    """
    return attention.dot_product_attention_weights(
        query,
        key,
        bias,
        mask,
        broadcast_dropout,
        dropout_rng,
        dropout_rate,
        deterministic,
        dtype,
        precision,
        force_fp32_for_softmax,
        einsum_dot_general,
        einsum,
        sow=_sower(module),
    )


def dot_product_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    broadcast_dropout: bool = True,
    dropout_rng: jax.Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: Dtype | None = None,
    precision: PrecisionLike = None,
    module: Module | None = None,
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Callable[..., jax.Array] | None = None,
    qk_attn_weights_einsum: Callable[..., jax.Array] | None = None,
    attn_weights_value_einsum: Callable[..., jax.Array] | None = None,
) -> jax.Array:
    """Averages the values, weighted by attention: `fx_core.ops.attention.dot_product_attention`.

    Args:
      query: shape ``(*batch, queries, heads, depth)``.
      key: shape ``(*batch, keys, heads, depth)``.
      value: shape ``(*batch, keys, heads, value_depth)``.
      bias: added to the logits; broadcasts to ``(*batch, heads, queries, keys)``.
      mask: nonzero where a query may see a key; broadcasts likewise.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rng: PRNG key for dropout.
      dropout_rate: probability to drop a weight.
      deterministic: drop nothing.
      dtype: dtype of the computation (default: inferred from the arguments).
      precision: of the multiplications, see `jax.lax.Precision`.
      module: sows the weights as ``attention_weights`` into ``intermediates``.
      force_fp32_for_softmax: softmax, weights and result in float32.
      einsum_dot_general: replaces `jax.lax.dot_general` within the einsums.
      qk_attn_weights_einsum: replaces the einsum of queries and keys.
      attn_weights_value_einsum: replaces the einsum of weights and values; both or none of these two.

    Returns:
      An array of shape ``(*batch, queries, heads, value_depth)``.

    Raises:
      ArgumentError: one of its subclasses, see the function of `fx_core.ops`.

    >>> import jax.numpy as jnp, fx_linen as nn
    >>> nn.dot_product_attention(jnp.ones((1, 1, 2)), jnp.ones((2, 1, 2)), jnp.array([[[0.0]], [[1.0]]]))
    Array([[[0.5]]], dtype=float32)
    """
    return attention.dot_product_attention(
        query,
        key,
        value,
        bias,
        mask,
        broadcast_dropout,
        dropout_rng,
        dropout_rate,
        deterministic,
        dtype,
        precision,
        force_fp32_for_softmax,
        einsum_dot_general,
        qk_attn_weights_einsum,
        attn_weights_value_einsum,
        sow=_sower(module),
    )


def _sower(module: Module | None) -> Callable[[jax.Array], Any] | None:
    # Asked for before the weights are computed: where nobody collects them, the fused kernel may do without.
    if module is None or not module.is_mutable_collection("intermediates"):
        return None
    return functools.partial(module.sow, "intermediates", "attention_weights")
