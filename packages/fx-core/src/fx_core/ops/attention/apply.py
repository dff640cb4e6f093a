"""Dot-product attention, by the fused kernel or step by step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fx_core.errors.attention import attention_hook
from fx_core.ops.attention import cudnn
from fx_core.ops.attention.plan import AttentionPlan, Implementation, flat_batch, plan_attention
from fx_core.ops.attention.weights import (
    Einsum,
    Sow,
    apply_weights,
    compute_weights,
    drop_weights,
    drops,
    einsum_for,
    full_rank,
    shape_of,
)
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.recorded import recorded_once
from fx_core.typing import Dtype, PrecisionLike

__all__ = ["dot_product_attention"]


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
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Callable[..., jax.Array] | None = None,
    qk_attn_weights_einsum: Einsum | None = None,
    attn_weights_value_einsum: Einsum | None = None,
    *,
    is_causal: bool = False,
    sow: Sow | None = None,
    implementation: Implementation = None,
) -> jax.Array:
    """Averages the values, weighted by how well their keys match each query.

    Vaswani et al., *Attention Is All You Need*, 2017; with fewer heads of keys than of queries Ainslie et al., *GQA:
    Training Generalized Multi-Query Transformer Models*, 2023.

    A fused kernel computes it unless weights are dropped, stored, or computed by functions of the caller, or unless
    ``precision`` is given, or float32 weights for a smaller dtype: cuDNN's on NVIDIA GPUs for bfloat16 and float16
    (see `suits <fx_core.ops.attention.cudnn.suits>`), else that of `jax.nn.dot_product_attention` (see
    `plan_attention`). No more than rounding depends on it. Programs are compiled for each platform as suits it, and
    forward-mode derivatives are there with each.

    Args:
      query: shape ``(*batch, queries, heads, depth)``.
      key: shape ``(*batch, keys, kv_heads, depth)``, where ``kv_heads`` divides ``heads``.
      value: shape ``(*batch, keys, kv_heads, value_depth)``.
      bias: added to the logits; broadcasts to ``(*batch, heads, queries, keys)``.
      mask: nonzero where a query may see a key; broadcasts likewise. A query that sees nothing averages all values.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rng: PRNG key for dropout.
      dropout_rate: probability to drop a weight.
      deterministic: drop nothing.
      dtype: dtype of the computation (default: inferred from the arguments).
      precision: of the multiplications, see `jax.lax.Precision`.
      force_fp32_for_softmax: softmax, weights and result in float32.
      einsum_dot_general: replaces `jax.lax.dot_general` within the einsums.
      qk_attn_weights_einsum: replaces the einsum of queries and keys.
      attn_weights_value_einsum: replaces the einsum of weights and values; both or none of these two.
      is_causal: query ``i`` sees the keys up to ``i`` only.
      sow: called with the weights before dropout.
      implementation: which kernel to ask `jax.nn.dot_product_attention` for: ``"xla"``, or ``"cudnn"`` (bfloat16 and
        float16 on NVIDIA GPUs; reverse-mode gradients only; JAX's errors where it cannot). None chooses.

    Returns:
      An array of shape ``(*batch, queries, heads, value_depth)``.

    Raises:
      ShapeMismatchError: queries, keys and values do not fit each other.
      ArgumentError: the heads of the keys do not divide those of the queries.
      ShapeMismatchError: bias or mask do not broadcast to the weights.
      ArgumentError: one einsum function without the other, or with ``precision`` or ``einsum_dot_general``.
      ArgumentError: weights are to be dropped without a key.
      ArgumentError: the rate is not between 0 and 1.

    >>> import jax.numpy as jnp
    >>> keys, values = jnp.ones((3, 1, 2)), jnp.arange(3.0).reshape(3, 1, 1)
    >>> dot_product_attention(keys, keys, values, is_causal=True).ravel()
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    query, key, value = promote_dtype(query, key, value, dtype=dtype)
    dtype = query.dtype
    drop = drops(dropout_rate, deterministic, dropout_rng)
    widen = force_fp32_for_softmax and dtype != jnp.float32
    hooked = _check_hooks(precision, einsum_dot_general, qk_attn_weights_einsum, attn_weights_value_einsum)
    needs_weights = drop or widen or hooked or sow is not None
    automatic = implementation is None and not needs_weights and cudnn.suits(query, key, value, bias)
    plan = plan_attention(
        query.shape,
        key.shape,
        value.shape,
        bias=shape_of(bias),
        mask=shape_of(mask),
        dtype=dtype,
        needs_weights=needs_weights,
        implementation="cudnn" if automatic else implementation,
    )
    if plan.kernel == "fused":
        return _fused(plan, query, key, value, bias, mask, is_causal, implementation, automatic)
    built_in = einsum_for(precision, einsum_dot_general)
    weights_einsum, value_einsum = qk_attn_weights_einsum or built_in, attn_weights_value_einsum or built_in
    weights = compute_weights(plan, query, key, bias, mask, weights_einsum, is_causal, force_fp32_for_softmax)
    if sow is not None:
        sow(weights)
    if drop:
        assert dropout_rng is not None
        weights = drop_weights(weights, dropout_rng, dropout_rate, broadcast_dropout, dtype)
    return apply_weights(plan, weights, value, value_einsum)


def _check_hooks(precision: PrecisionLike, dot_general: Any, weights_einsum: Any, value_einsum: Any) -> bool:
    """Whether the caller has a say in the multiplications."""
    built_in = precision is not None or dot_general is not None
    if weights_einsum is None and value_einsum is None:
        return built_in
    if weights_einsum is None or value_einsum is None:
        raise attention_hook(
            "One einsum function of attention was given without the other.",
            expected="qk_attn_weights_einsum and attn_weights_value_einsum together",
            got=f"qk_attn_weights_einsum={weights_einsum}, attn_weights_value_einsum={value_einsum}",
        )
    if built_in:
        raise attention_hook(
            "Einsum functions were given together with options of the built-in one.",
            expected="qk_attn_weights_einsum and attn_weights_value_einsum, or precision and einsum_dot_general",
            got=f"all four, with precision={precision} and einsum_dot_general={dot_general}",
        )
    return True


def _fused(
    plan: AttentionPlan,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array | None,
    is_causal: bool,
    implementation: Implementation,
    automatic: bool,
) -> jax.Array:
    """The kernels know exactly one batch dimension, and boolean masks."""
    shape = query.shape
    if len(plan.batch) != 1:
        flat = flat_batch(plan)
        query, key, value = (x.reshape((flat, *x.shape[-3:])) for x in (query, key, value))
    if bias is not None:
        bias = _one_batch_dim(plan, bias)
    if mask is not None:
        mask = _one_batch_dim(plan, mask).astype(bool)
    if automatic:
        return cudnn.attend(query, key, value, bias, mask, is_causal).reshape(shape)
    options = {"is_causal": is_causal, "implementation": implementation}
    return recorded_once(jax.nn.dot_product_attention, (query, key, value, bias, mask), options).reshape(shape)


def _one_batch_dim(plan: AttentionPlan, array: jax.Array) -> jax.Array:
    array = full_rank(array, len(plan.weights_shape))
    batch, rest = array.shape[:-3], array.shape[-3:]
    if len(batch) == 1:
        return array
    if all(size == 1 for size in batch):
        return array.reshape((1, *rest))
    return jnp.broadcast_to(array, (*plan.batch, *rest)).reshape((flat_batch(plan), *rest))
