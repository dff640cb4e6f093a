"""Attention of a scope."""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops.attention import dot_product_attention
from fx_core.ops.inputs import features_of
from fx_core.scope import Scope
from fx_core.typing import Dtype

from fx_linen.functional._linear import dense_general

__all__ = ["attention"]


def attention(
    scope: Scope,
    inputs_q: jax.Array,
    inputs_kv: jax.Array,
    num_heads: int,
    mask: jax.Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = True,
    dtype: Dtype | None = None,
    param_dtype: Dtype = jnp.float32,
    bias: bool = True,
) -> jax.Array:
    """Applies multi-head attention, see `fx_linen.MultiHeadDotProductAttention`.

    Args:
      scope: gets ``query``, ``key``, ``value`` and ``out``.
      inputs_q: ``(*batch, queries, features)``; the number of heads divides the features.
      inputs_kv: ``(*batch, keys, in)``.
      num_heads: number of heads.
      mask: True where a query may attend to a key; broadcasts to ``(*batch, heads, queries, keys)``.
      dropout_rate: probability to drop an attention weight.
      deterministic: whether to drop none.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of the parameters.
      bias: whether projections have a bias.

    Returns:
      An array like ``inputs_q``.
    """
    features = features_of(inputs_q, "queries")
    heads = (num_heads, features // num_heads)
    options: dict[str, Any] = {"bias": bias, "dtype": dtype, "param_dtype": param_dtype}
    query = scope.child(dense_general, "query")(inputs_q, heads, **options)
    key = scope.child(dense_general, "key")(inputs_kv, heads, **options)
    value = scope.child(dense_general, "value")(inputs_kv, heads, **options)
    rng = None if deterministic or dropout_rate == 0.0 else scope.make_rng("dropout")
    out = dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        dropout_rng=rng,
        dropout_rate=dropout_rate,
        deterministic=deterministic,
        dtype=dtype,
    )
    return scope.child(dense_general, "out")(out, features, axis=(-2, -1), **options)
