"""Linear maps, embeddings and convolutions of a scope."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import conv as conv_ops
from fx_core.ops import embed as embed_ops
from fx_core.ops import linear
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import (
    default_bias_init,
    default_embed_init,
    default_kernel_init,
)
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer, ParamSpec
from fx_core.scope import Scope

__all__ = ["conv", "dense", "dense_general", "embed"]

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
    specs = linear.dense_params(features_of(inputs), features, use_bias)
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
    channels = features_of(inputs)
    specs = conv_ops.conv_params(plan.kernel_size, channels, features, feature_group_count, use_bias)
    kernel = scope.param("kernel", kernel_init, specs["kernel"].shape, param_dtype)
    bias = scope.param("bias", bias_init, specs["bias"].shape, param_dtype) if use_bias else None
    inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=dtype)
    return conv_ops.conv(plan, inputs, kernel, bias, precision=precision)
