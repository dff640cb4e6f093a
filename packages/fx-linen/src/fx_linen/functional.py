"""Layers as plain functions of a scope, for those who like scopes without modules.

The arithmetic, the parameters and their names are those of the modules. Each call makes its variables in the scope that
it gets: give every layer a scope of its own with `fx_core.Scope.child`.

>>> import jax, jax.numpy as jnp
>>> from fx_core.scope import init
>>> from fx_linen import functional as F
>>> def mlp(scope, x):
...     x = jax.nn.relu(scope.child(F.dense, "hidden")(x, 8))
...     return scope.child(F.dense, "out")(x, 2)
>>> y, variables = init(mlp)(jax.random.key(0), jnp.ones((1, 3)))
>>> jax.tree.map(jnp.shape, variables)
{'params': {'hidden': {'bias': (8,), 'kernel': (3, 8)}, 'out': {'bias': (2,), 'kernel': (8, 2)}}}
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import conv as conv_ops
from fx_core.ops import dropout as dropout_ops
from fx_core.ops import embed as embed_ops
from fx_core.ops import linear, norm
from fx_core.ops.attention import dot_product_attention
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import (
    default_bias_init,
    default_embed_init,
    default_kernel_init,
    default_scale_init,
    ones,
    zeros,
)
from fx_core.ops.params import Initializer, ParamSpec
from fx_core.scope import Scope

__all__ = [
    "attention",
    "batch_norm",
    "conv",
    "dense",
    "dense_general",
    "dropout",
    "embed",
    "group_norm",
    "layer_norm",
    "rms_norm",
]

Axes = int | Sequence[int]


def dense(
    scope: Scope,
    inputs: jax.Array,
    features: int,
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    precision: Any = None,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
) -> jax.Array:
    """Linear map over the last axis, see `fx_linen.Dense`.

    Args:
      scope: gets ``kernel`` (in, features) and ``bias`` (features,).
      inputs: shape ``(..., in)``.
      features: size of the last axis of the result.
      use_bias: whether to add a bias.
      dtype: to compute in; None follows inputs and parameters.
      param_dtype: of the parameters.
      precision: see `jax.lax.Precision`.
      kernel_init: draws the kernel.
      bias_init: draws the bias.

    Returns:
      An array of shape ``(..., features)``.
    """
    specs = linear.dense_params(jnp.shape(inputs)[-1], features, use_bias)
    kernel = scope.param("kernel", kernel_init, specs["kernel"].shape, param_dtype)
    bias = scope.param("bias", bias_init, specs["bias"].shape, param_dtype) if use_bias else None
    inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
    return linear.dense(inputs, kernel, bias, precision=precision)


def dense_general(
    scope: Scope,
    inputs: jax.Array,
    features: Axes,
    axis: Axes = -1,
    batch_dims: Sequence[int] = (),
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    precision: Any = None,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
) -> jax.Array:
    """Linear map over any axes, see `fx_linen.DenseGeneral`.

    Args:
      scope: gets ``kernel`` and ``bias``.
      inputs: any shape that has the axes.
      features: sizes of the new axes, which come last.
      axis: axes of the input to contract.
      batch_dims: leading axes that have a kernel and bias each.
      use_bias: whether to add a bias.
      dtype: to compute in; None follows inputs and parameters.
      param_dtype: of the parameters.
      precision: see `jax.lax.Precision`.
      kernel_init: draws the kernel, which it sees as a matrix.
      bias_init: draws the bias.

    Returns:
      An array of shape ``(*batch, *other_axes, *features)``.
    """
    shape = jnp.shape(inputs)
    plan = linear.plan_dense_general(len(shape), features, axis, batch_dims)
    batch, contracted = [shape[i] for i in plan.batch_dims], [shape[i] for i in plan.axis]
    specs = linear.dense_general_params(batch, contracted, plan.features, use_bias, kernel_init, bias_init)
    kernel, bias = (_param(scope, specs, name, param_dtype) for name in ("kernel", "bias"))
    inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
    return linear.dense_general(plan, inputs, kernel, bias, precision=precision)


def _param(scope: Scope, specs: Mapping[str, ParamSpec], name: str, dtype: Any) -> Any:
    return scope.param(name, specs[name].init, specs[name].shape, dtype) if name in specs else None


def embed(
    scope: Scope,
    inputs: jax.Array,
    num_embeddings: int,
    features: int,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    embedding_init: Initializer = default_embed_init,
) -> jax.Array:
    """Look up a vector for each integer, see `fx_linen.Embed`.

    Args:
      scope: gets ``embedding`` (num_embeddings, features).
      inputs: integers of any shape.
      num_embeddings: number of vectors.
      features: their size.
      dtype: of the result; None follows the parameter.
      param_dtype: of the parameter.
      embedding_init: draws the vectors.

    Returns:
      An array of shape ``(*inputs.shape, features)``.

    Raises:
      LookupIndexDtypeError: the inputs are not integers.
    """
    shape = embed_ops.embed_params(num_embeddings, features)["embedding"].shape
    table = scope.param("embedding", embedding_init, shape, param_dtype)
    (table,) = promote_dtype(table, dtype=dtype, inexact=False)
    return embed_ops.lookup(table, jnp.asarray(inputs))


def conv(
    scope: Scope,
    inputs: jax.Array,
    features: int,
    kernel_size: int | Sequence[int],
    strides: Any = 1,
    padding: Any = "SAME",
    input_dilation: Any = 1,
    kernel_dilation: Any = 1,
    feature_group_count: int = 1,
    use_bias: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    precision: Any = None,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
) -> jax.Array:
    """Convolution, see `fx_linen.Conv`.

    Args:
      scope: gets ``kernel`` ``(*kernel_size, in / groups, features)`` and ``bias`` (features,).
      inputs: shape ``(*batch, *space, in)``.
      features: number of output features.
      kernel_size: size of the window.
      strides: of the window.
      padding: see `fx_linen.Conv`.
      input_dilation: see there.
      kernel_dilation: see there.
      feature_group_count: see there.
      use_bias: whether to add a bias.
      dtype: to compute in; None follows inputs and parameters.
      param_dtype: of the parameters.
      precision: see `jax.lax.Precision`.
      kernel_init: draws the kernel.
      bias_init: draws the bias.

    Returns:
      An array of shape ``(*batch, *windows, features)``.
    """
    plan = conv_ops.plan_conv(kernel_size, strides, padding, input_dilation, kernel_dilation, feature_group_count)
    channels = jnp.shape(inputs)[-1]
    specs = conv_ops.conv_params(plan.kernel_size, channels, features, feature_group_count, use_bias)
    kernel = scope.param("kernel", kernel_init, specs["kernel"].shape, param_dtype)
    bias = scope.param("bias", bias_init, specs["bias"].shape, param_dtype) if use_bias else None
    inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
    return conv_ops.conv(plan, inputs, kernel, bias, precision=precision)


def _scale_and_bias(scope: Scope, shape: Sequence[int], use_scale: bool, use_bias: bool, dtype: Any) -> tuple[Any, Any]:
    specs = norm.norm_params(shape, use_scale, use_bias)
    scale = scope.param("scale", default_scale_init, specs["scale"].shape, dtype) if use_scale else None
    bias = scope.param("bias", default_bias_init, specs["bias"].shape, dtype) if use_bias else None
    return scale, bias


def layer_norm(
    scope: Scope,
    x: jax.Array,
    epsilon: float = 1e-6,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    use_mean: bool = True,
) -> jax.Array:
    """Normalise each example over its features, see `fx_linen.LayerNorm`.

    Args:
      scope: gets ``scale`` and ``bias`` of the shape of the feature axes.
      x: any shape that has the axes.
      epsilon: added to the variance.
      dtype: of the result; None follows input and parameters.
      param_dtype: of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply by a scale.
      reduction_axes: axes that statistics are taken over.
      feature_axes: axes with scale and bias.
      use_mean: whether to subtract the mean.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_layer_norm(jnp.ndim(x), reduction_axes, feature_axes)
    scale, bias = _scale_and_bias(scope, plan.feature_shape(jnp.shape(x)), use_scale, use_bias, param_dtype)
    return norm.layer_norm(plan, x, scale, bias, epsilon=epsilon, dtype=dtype, use_mean=use_mean)


def rms_norm(scope: Scope, x: jax.Array, use_scale: bool = True, **options: Any) -> jax.Array:
    """Divide each example by its root mean square, see `fx_linen.RMSNorm`.

    Args:
      scope: gets ``scale``.
      x: any shape that has the axes.
      use_scale: whether to multiply by a scale.
      **options: those of `layer_norm`.

    Returns:
      An array like ``x``.
    """
    return layer_norm(scope, x, use_bias=False, use_scale=use_scale, use_mean=False, **options)


def group_norm(
    scope: Scope,
    x: jax.Array,
    num_groups: int | None = 32,
    group_size: int | None = None,
    epsilon: float = 1e-6,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
) -> jax.Array:
    """Normalise each group of features of each example, see `fx_linen.GroupNorm`.

    Args:
      scope: gets ``scale`` and ``bias``, one per feature.
      x: shape ``(batch, ..., features)``.
      num_groups: number of groups; None with ``group_size``.
      group_size: features per group.
      epsilon: added to the variance.
      dtype: of the result; None follows input and parameters.
      param_dtype: of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply by a scale.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_group_norm(jnp.shape(x), num_groups, group_size, None)
    scale, bias = _scale_and_bias(scope, plan.feature_shape(jnp.shape(x)), use_scale, use_bias, param_dtype)
    return norm.group_norm(plan, x, scale, bias, epsilon=epsilon, dtype=dtype)


def batch_norm(
    scope: Scope,
    x: jax.Array,
    use_running_average: bool,
    axis: Axes = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-5,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
) -> jax.Array:
    """Normalise each feature over the batch, see `fx_linen.BatchNorm`.

    Args:
      scope: gets ``scale`` and ``bias``, and in ``batch_stats`` the averages ``mean`` and ``var``.
      x: any shape that has the feature axes.
      use_running_average: whether to normalise with the averages instead of the batch.
      axis: feature axes; all others are reduced.
      momentum: weight of the old average.
      epsilon: added to the variance.
      dtype: of the result; None follows input and parameters.
      param_dtype: of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply by a scale.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_batch_norm(jnp.ndim(x), axis)
    shape = plan.feature_shape(jnp.shape(x))
    made = not scope.has_variable("batch_stats", "mean")
    means = scope.variable("batch_stats", "mean", zeros, None, shape, jnp.float32)
    variances = scope.variable("batch_stats", "var", ones, None, shape, jnp.float32)
    mean, var = means.value, variances.value
    if not use_running_average:
        mean, var = norm.moments(x, plan.reduction_axes, dtype=dtype)
        if not made:
            means.value = norm.running_average(means.value, mean, momentum)
            variances.value = norm.running_average(variances.value, var, momentum)
    scale, bias = _scale_and_bias(scope, shape, use_scale, use_bias, param_dtype)
    return norm.batch_norm(plan, x, mean, var, scale, bias, epsilon=epsilon, dtype=dtype)


def dropout(
    scope: Scope,
    inputs: jax.Array,
    rate: float,
    deterministic: bool = False,
    broadcast_dims: Sequence[int] = (),
    rng_collection: str = "dropout",
) -> jax.Array:
    """Set a random part of the values to zero, see `fx_linen.Dropout`.

    Args:
      scope: gives the key.
      inputs: any shape.
      rate: probability to drop a value.
      deterministic: whether to leave the inputs alone.
      broadcast_dims: axes along which values are dropped together.
      rng_collection: RNG stream to draw from.

    Returns:
      An array like the inputs.

    Raises:
      DropoutRateError: the rate is not a probability.
    """
    dropout_ops.check_rate(rate)
    if rate == 0.0 or deterministic:
        return inputs
    if rate == 1.0:
        return jnp.zeros_like(inputs)
    return dropout_ops.dropout(inputs, rate, scope.make_rng(rng_collection), broadcast_dims)


def attention(
    scope: Scope,
    inputs_q: jax.Array,
    inputs_kv: jax.Array,
    num_heads: int,
    mask: jax.Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = True,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    use_bias: bool = True,
) -> jax.Array:
    """Multi-head attention, see `fx_linen.MultiHeadDotProductAttention`.

    Args:
      scope: gets ``query``, ``key``, ``value`` and ``out``.
      inputs_q: ``(*batch, queries, features)``; the number of heads divides the features.
      inputs_kv: ``(*batch, keys, in)``.
      num_heads: number of heads.
      mask: True where a query may attend to a key; broadcasts to ``(*batch, heads, queries, keys)``.
      dropout_rate: probability to drop an attention weight.
      deterministic: whether to drop none.
      dtype: to compute in; None follows inputs and parameters.
      param_dtype: of the parameters.
      use_bias: whether projections have a bias.

    Returns:
      An array like ``inputs_q``.
    """
    features = jnp.shape(inputs_q)[-1]
    heads = (num_heads, features // num_heads)
    options: dict[str, Any] = {"use_bias": use_bias, "dtype": dtype, "param_dtype": param_dtype}
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
