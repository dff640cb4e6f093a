"""How features are divided into heads, and the parameters of multi-head attention."""

import dataclasses
import functools

import jax

from fx_core.errors.attention import attention_heads
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.linear import dense_general_params
from fx_core.ops.norm import layer_norm, norm_params, plan_layer_norm
from fx_core.ops.params import Initializer, ParamSpec
from fx_core.typing import Dtype

__all__ = ["HeadsPlan", "attention_params", "plan_heads", "qk_norm"]


@dataclasses.dataclass(frozen=True)
class HeadsPlan:
    """How features are divided into heads. See `plan_heads`.

    Attributes:
      num_heads: heads of the queries.
      num_kv_heads: heads of keys and values.
      depth: features of a head.
      out_features: size of the result.
    """

    num_heads: int
    num_kv_heads: int
    depth: int
    out_features: int


@functools.lru_cache(maxsize=1024)
def plan_heads(
    qkv_features: int, num_heads: int, num_kv_heads: int | None = None, out_features: int | None = None
) -> HeadsPlan:
    """Divides features into heads.

    Args:
      qkv_features: features of all heads of the queries together.
      num_heads: heads of the queries.
      num_kv_heads: heads of keys and values; as many if None. Fewer share keys and values among groups of heads.
      out_features: size of the result; ``qkv_features`` if None.

    Raises:
      ArgumentError: the features do not divide into the heads, or the heads into groups.

    >>> plan_heads(64, 8, 2)
    HeadsPlan(num_heads=8, num_kv_heads=2, depth=8, out_features=64)
    """
    if num_heads < 1 or qkv_features % num_heads:
        raise attention_heads("features", qkv_features, "num_heads", num_heads)
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if kv_heads < 1 or num_heads % kv_heads:
        raise attention_heads("heads of the queries", num_heads, "num_kv_heads", kv_heads)
    out = qkv_features if out_features is None else out_features
    return HeadsPlan(num_heads, kv_heads, qkv_features // num_heads, out)


def attention_params(
    plan: HeadsPlan,
    query_features: int,
    key_features: int | None = None,
    value_features: int | None = None,
    *,
    use_bias: bool = True,
    normalize_qk: bool = False,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
    out_kernel_init: Initializer | None = None,
    out_bias_init: Initializer | None = None,
) -> dict[str, dict[str, ParamSpec]]:
    """Returns the parameters of multi-head attention, by name, by projection.

    Args:
      plan: from `plan_heads`.
      query_features: features of the inputs that queries are made of.
      key_features: likewise for keys; ``query_features`` if None.
      value_features: likewise for values; ``key_features`` if None.
      use_bias: whether the projections have biases.
      normalize_qk: whether queries and keys are normalized, see `qk_norm`.
      kernel_init: initializer for the kernels, which it gets as matrices.
      bias_init: initializer for the biases, which it gets as vectors.
      out_kernel_init: for the last projection; ``kernel_init`` if None.
      out_bias_init: likewise.

    Returns:
      Parameters of ``query``, ``key``, ``value``, ``query_ln`` and ``key_ln`` if normalized, and ``out``.

    >>> specs = attention_params(plan_heads(8, 2), 6)
    >>> {name: spec["kernel"].shape for name, spec in specs.items()}
    {'query': (6, 2, 4), 'key': (6, 2, 4), 'value': (6, 2, 4), 'out': (2, 4, 8)}
    """
    key_features = query_features if key_features is None else key_features
    value_features = key_features if value_features is None else value_features
    params: dict[str, dict[str, ParamSpec]] = {}
    inputs = {
        "query": (query_features, plan.num_heads),
        "key": (key_features, plan.num_kv_heads),
        "value": (value_features, plan.num_kv_heads),
    }
    for name, (features, heads) in inputs.items():
        specs = dense_general_params((), (features,), (heads, plan.depth), use_bias, kernel_init, bias_init)
        params[name] = _named(specs, kernel=("in", "heads", "depth"), bias=("heads", "depth"))
    if normalize_qk:
        params["query_ln"] = norm_params((plan.depth,), use_bias=False)
        params["key_ln"] = norm_params((plan.depth,), use_bias=False)
    specs = dense_general_params(
        (),
        (plan.num_heads, plan.depth),
        (plan.out_features,),
        use_bias,
        kernel_init if out_kernel_init is None else out_kernel_init,
        bias_init if out_bias_init is None else out_bias_init,
    )
    params["out"] = _named(specs, kernel=("heads", "depth", "out"), bias=("out",))
    return params


def qk_norm(
    query: jax.Array,
    key: jax.Array,
    query_scale: jax.Array | None,
    key_scale: jax.Array | None,
    *,
    dtype: Dtype | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Normalizes each head of queries and keys, so that logits stay small however large the features become.

    Dehghani et al., *Scaling Vision Transformers to 22 Billion Parameters*, 2023: a layer norm without bias over the
    depth.

    Args:
      query: shape ``(..., depth)``.
      key: shape ``(..., depth)``.
      query_scale: shape ``(depth,)``, or None.
      key_scale: shape ``(depth,)``, or None.
      dtype: of the results; None follows the arguments.

    Returns:
      Arrays like ``query`` and ``key``.

    >>> import jax.numpy as jnp
    >>> qk_norm(jnp.array([1.0, 3.0]), jnp.array([30.0, 10.0]), None, None)[1].round(3)
    Array([ 1., -1.], dtype=float32)
    """
    return (
        layer_norm(plan_layer_norm(query.ndim), query, query_scale, dtype=dtype),
        layer_norm(plan_layer_norm(key.ndim), key, key_scale, dtype=dtype),
    )


def _named(specs: dict[str, ParamSpec], **axes: tuple[str, ...]) -> dict[str, ParamSpec]:
    return {name: dataclasses.replace(spec, axes=axes[name]) for name, spec in specs.items()}
