"""Attention weights as an array: softmax of the scaled inner products of queries and keys."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fx_core.compat.jax import einsum_with
from fx_core.errors.attention import attention_hook
from fx_core.errors.kinds import ArgumentError
from fx_core.ops.attention.masks import causal
from fx_core.ops.attention.plan import AttentionPlan, plan_attention
from fx_core.ops.dropout import check_rate, keep_mask
from fx_core.ops.dtypes import promote_dtype
from fx_core.typing import Dtype, PrecisionLike

__all__ = [
    "Einsum",
    "Sow",
    "apply_weights",
    "compute_weights",
    "dot_product_attention_weights",
    "drop_weights",
    "drops",
    "einsum_for",
    "full_rank",
    "shape_of",
]

Einsum = Callable[..., jax.Array]
"""Called as ``einsum(equation, lhs, rhs)``."""
Sow = Callable[[jax.Array], Any]
"""Called with the weights, to store them."""


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
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Callable[..., jax.Array] | None = None,
    einsum: Einsum | None = None,
    *,
    is_causal: bool = False,
    sow: Sow | None = None,
) -> jax.Array:
    """Computes how much each query attends to each key.

    Vaswani et al., *Attention Is All You Need*, 2017: ``softmax(query · keyᵀ / sqrt(depth) + bias)``, with dropout.

    Args:
      query: shape ``(*batch, queries, heads, depth)``.
      key: shape ``(*batch, keys, kv_heads, depth)``, where ``kv_heads`` divides ``heads``.
      bias: added to the logits; broadcasts to ``(*batch, heads, queries, keys)``.
      mask: nonzero where a query may see a key; broadcasts likewise. A query that sees nothing weighs all keys alike.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rng: PRNG key for dropout.
      dropout_rate: probability to drop a weight.
      deterministic: drop nothing.
      dtype: dtype of the computation (default: inferred from the arguments).
      precision: of the multiplication, see `jax.lax.Precision`.
      force_fp32_for_softmax: take the softmax, and return weights, in float32.
      einsum_dot_general: replaces `jax.lax.dot_general` within the einsum.
      einsum: replaces the einsum; called with equation, query and key.
      is_causal: query ``i`` sees the keys up to ``i`` only.
      sow: called with the weights before dropout.

    Returns:
      Weights of shape ``(*batch, heads, queries, keys)``.

    Raises:
      ShapeMismatchError: queries and keys do not fit each other.
      ArgumentError: the heads of the keys do not divide those of the queries.
      ShapeMismatchError: bias or mask do not broadcast to the weights.
      ArgumentError: ``einsum`` together with ``precision`` or ``einsum_dot_general``.
      ArgumentError: weights are to be dropped without a key.
      ArgumentError: the rate is not between 0 and 1.

    >>> import jax.numpy as jnp
    >>> x = jnp.ones((4, 1, 8))
    >>> dot_product_attention_weights(x[:1], x, mask=jnp.array([1, 1, 0, 0]))
    Array([[[0.5, 0.5, 0. , 0. ]]], dtype=float32)
    """
    query, key = promote_dtype(query, key, dtype=dtype)
    if einsum is not None and (precision is not None or einsum_dot_general is not None):
        raise attention_hook(
            "An einsum function was given together with options of the built-in one.",
            expected="einsum, or precision and einsum_dot_general",
            got=f"precision={precision}, einsum_dot_general={einsum_dot_general}, einsum={einsum}",
        )
    plan = plan_attention(query.shape, key.shape, bias=shape_of(bias), mask=shape_of(mask))
    weights = compute_weights(
        plan,
        query,
        key,
        bias,
        mask,
        einsum or einsum_for(precision, einsum_dot_general),
        is_causal,
        force_fp32_for_softmax,
    )
    if sow is not None:
        sow(weights)
    if drops(dropout_rate, deterministic, dropout_rng):
        assert dropout_rng is not None
        return drop_weights(weights, dropout_rng, dropout_rate, broadcast_dropout, query.dtype)
    return weights


def compute_weights(
    plan: AttentionPlan,
    query: jax.Array,
    key: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array | None,
    einsum: Einsum,
    is_causal: bool,
    force_fp32_for_softmax: bool,
) -> jax.Array:
    """Returns the weights before dropout."""
    dtype = query.dtype
    # The root has float32's digits for 16 bits, and those of the query for 64.
    root = jnp.sqrt(jnp.asarray(plan.depth, jnp.promote_types(jnp.finfo(dtype).dtype, jnp.float32)))
    logits = _logits(plan, query / root.astype(dtype), key, einsum)
    if bias is not None:
        logits = logits + full_rank(bias, logits.ndim)
    lowest = jnp.finfo(dtype).min
    if mask is not None:
        logits = jnp.where(full_rank(mask, logits.ndim), logits, lowest)
    if is_causal:
        logits = jnp.where(full_rank(causal(plan.queries, plan.keys), logits.ndim), logits, lowest)
    if force_fp32_for_softmax and dtype != jnp.float32:
        return jax.nn.softmax(logits.astype(jnp.float32))
    return jax.nn.softmax(logits).astype(dtype)


def _logits(plan: AttentionPlan, query: jax.Array, key: jax.Array, einsum: Einsum) -> jax.Array:
    if plan.groups == 1:
        return einsum("...qhd,...khd->...hqk", query, key)
    grouped = query.reshape((*query.shape[:-2], plan.num_kv_heads, plan.groups, plan.depth))
    logits = einsum("...qhgd,...khd->...hgqk", grouped, key)
    return logits.reshape((*logits.shape[:-4], plan.num_heads, *logits.shape[-2:]))


def apply_weights(plan: AttentionPlan, weights: jax.Array, value: jax.Array, einsum: Einsum) -> jax.Array:
    """Averages values of shape ``(*batch, keys, kv_heads, depth)`` to ``(*batch, queries, heads, depth)``."""
    if plan.groups == 1:
        return einsum("...hqk,...khd->...qhd", weights, value)
    grouped = weights.reshape((*weights.shape[:-3], plan.num_kv_heads, plan.groups, *weights.shape[-2:]))
    result = einsum("...hgqk,...khd->...qhgd", grouped, value)
    return result.reshape((*result.shape[:-3], plan.num_heads, result.shape[-1]))


def drops(rate: float, deterministic: bool, key: jax.Array | None) -> bool:
    """Returns whether weights are dropped.

    Raises:
      ArgumentError: the rate is not between 0 and 1.
      ArgumentError: they are, and there is no key.
    """
    check_rate(rate)
    if deterministic or rate == 0.0:
        return False
    if key is None:
        raise ArgumentError(
            "Dropping attention weights needs a PRNG key.",
            expected="dropout_rng=jax.random.key(...)",
            got=f"dropout_rng=None with dropout_rate={rate}",
            fix="pass dropout_rng, or deterministic=True to drop nothing",
        )
    return True


def drop_weights(weights: jax.Array, key: jax.Array, rate: float, broadcast: bool, dtype: Dtype) -> jax.Array:
    """Sets some weights to zero and scale the others; ``broadcast`` takes the same in all of the batch and heads."""
    if rate == 1.0:  # keeps the result free of 0/0
        return jnp.zeros_like(weights)
    keep = keep_mask(key, 1.0 - rate, weights.shape, range(weights.ndim - 2) if broadcast else ())
    return weights * (keep.astype(dtype) / jnp.asarray(1.0 - rate, dtype))


def einsum_for(precision: PrecisionLike, dot_general: Callable[..., jax.Array] | None) -> Einsum:
    """Returns an einsum with the precision, made of the given ``dot_general``."""
    if dot_general is not None:
        return einsum_with(dot_general, precision=precision)
    return functools.partial(jnp.einsum, precision=precision)


def full_rank(array: Any, ndim: int) -> jax.Array:
    """Adds leading dimensions of size 1."""
    array = jnp.asarray(array)
    return lax.expand_dims(array, range(ndim - array.ndim)) if array.ndim < ndim else array


def shape_of(array: Any) -> tuple[int, ...] | None:
    """Returns the shape of an array, or None for None."""
    return None if array is None else np.shape(array)
