"""Attention as functions, on the arithmetic of `fx_core.ops.attention`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from fx_core.ops import attention
from fx_core.typing import Dtype, PrecisionLike

from fx_nnx.layers.attention.rope import RoPE
from fx_nnx.layers.params import promote_dtype
from fx_nnx.modules.module import Module
from fx_nnx.variables.kinds import Intermediate

__all__ = ["dot_product_attention", "dot_product_attention_weights", "dot_product_attention_with_rope"]


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
    promote_dtype: Callable[..., Any] = promote_dtype,
    is_causal: bool = False,
) -> jax.Array:
    """Averages the values, weighted by attention: `fx_core.ops.attention.dot_product_attention`.

    Args:
      query: shape ``(*batch, queries, heads, depth)``.
      key: shape ``(*batch, keys, kv_heads, depth)``, where ``kv_heads`` divides ``heads``.
      value: shape ``(*batch, keys, kv_heads, value_depth)``.
      bias: added to the logits; broadcasts to ``(*batch, heads, queries, keys)``.
      mask: nonzero where a query may see a key; broadcasts likewise.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rng: PRNG key for dropout.
      dropout_rate: probability to drop a weight.
      deterministic: drop nothing.
      dtype: dtype of the computation (default: inferred from the arguments).
      precision: of the multiplications, see `jax.lax.Precision`.
      module: sows the weights as ``attention_weights``, an `fx_nnx.Intermediate`.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      is_causal: query ``i`` sees the keys up to ``i`` only.

    Returns:
      An array of shape ``(*batch, queries, heads, value_depth)``.

    Raises:
      ArgumentError: one of its subclasses, see the function of `fx_core.ops`.

    >>> import jax.numpy as jnp
    >>> dot_product_attention(jnp.ones((1, 1, 2)), jnp.ones((2, 1, 2)), jnp.array([[[0.0]], [[1.0]]]))
    Array([[[0.5]]], dtype=float32)
    """
    query, key, value = promote_dtype((query, key, value), dtype=dtype)
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
        query.dtype,
        precision,
        is_causal=is_causal,
        sow=_sow(module),
    )


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
    promote_dtype: Callable[..., Any] = promote_dtype,
    is_causal: bool = False,
) -> jax.Array:
    """Computes how much each query attends to each key: `fx_core.ops.attention.dot_product_attention_weights`.

    Args:
      query: shape ``(*batch, queries, heads, depth)``.
      key: shape ``(*batch, keys, kv_heads, depth)``, where ``kv_heads`` divides ``heads``.
      bias: as in `dot_product_attention`, as are all that follow.
      mask: nonzero where a query may see a key.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rng: PRNG key for dropout.
      dropout_rate: probability to drop a weight.
      deterministic: drop nothing.
      dtype: dtype of the computation (default: inferred from the arguments).
      precision: of the multiplication, see `jax.lax.Precision`.
      module: sows the weights as ``attention_weights``, an `fx_nnx.Intermediate`.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`; called with query and key.
      is_causal: query ``i`` sees the keys up to ``i`` only.

    Returns:
      Weights of shape ``(*batch, heads, queries, keys)``.

    Raises:
      ArgumentError: one of its subclasses, see the function of `fx_core.ops`.

    >>> import jax.numpy as jnp
    >>> dot_product_attention_weights(jnp.ones((1, 1, 2)), jnp.ones((2, 1, 2)))
    Array([[[0.5, 0.5]]], dtype=float32)
    """
    query, key = promote_dtype((query, key), dtype=dtype)
    return attention.dot_product_attention_weights(
        query,
        key,
        bias,
        mask,
        broadcast_dropout,
        dropout_rng,
        dropout_rate,
        deterministic,
        query.dtype,
        precision,
        is_causal=is_causal,
        sow=_sow(module),
    )


def _sow(module: Module | None) -> Callable[[jax.Array], Any] | None:
    return None if module is None else functools.partial(module.sow, Intermediate, "attention_weights")


def dot_product_attention_with_rope(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    rope: RoPE,
    input_positions: jax.Array | None = None,
    key_positions: jax.Array | None = None,
    **kwargs: Any,
) -> jax.Array:
    """Rotates queries and keys by their positions, then attends.

    For `MultiHeadAttention`, bind the rotation: ``attention_fn=functools.partial(dot_product_attention_with_rope,
    rope=RoPE())``. When it decodes, the layer passes both kinds of positions.

    Args:
      query: shape ``(*batch, queries, heads, depth)``.
      key: shape ``(*batch, keys, kv_heads, depth)``.
      value: shape ``(*batch, keys, kv_heads, value_depth)``.
      rope: the rotation.
      input_positions: of the queries, shape ``(queries,)`` or ``(*batch, queries)``; counted from 0 if None.
      key_positions: of the keys; those of the queries if None and there are as many, else counted from 0.
      **kwargs: further arguments of `dot_product_attention`.

    Returns:
      An array of shape ``(*batch, queries, heads, value_depth)``.

    Raises:
      ShapeMismatchError: the depth is odd, or there is not one position per token.
      ArgumentError: one of its subclasses, see `dot_product_attention`.

    >>> import jax.numpy as jnp
    >>> x = jnp.ones((1, 3, 2, 4))
    >>> dot_product_attention_with_rope(x, x, x, rope=RoPE()).shape
    (1, 3, 2, 4)
    """
    if key_positions is None and key.shape[-3] == query.shape[-3]:
        key_positions = input_positions
    query, key = rope.turn(query, input_positions), rope.turn(key, key_positions)
    return dot_product_attention(query, key, value, **kwargs)
