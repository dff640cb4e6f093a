"""Convolutions of a scope."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import conv as conv_ops
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer
from fx_core.scope import Scope
from fx_core.typing import Dtype, PrecisionLike

from fx_linen.functional._linear import kernel_and_bias

__all__ = ["conv", "conv_transpose"]

Sizes = int | Sequence[int]


def conv(
    scope: Scope,
    inputs: jax.Array,
    features: int,
    kernel_size: Sizes,
    strides: Sizes | None = None,
    padding: Any = "SAME",
    input_dilation: Sizes | None = None,
    kernel_dilation: Sizes | None = None,
    feature_group_count: int = 1,
    bias: bool = True,
    dtype: Dtype | None = None,
    precision: PrecisionLike = None,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
    *,
    param_dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Applies a convolution, see `fx_linen.Conv`.

    Args:
      scope: gets ``kernel`` ``(*kernel_size, in / groups, features)`` and ``bias`` (features,).
      inputs: shape ``(*batch, *space, in)``.
      features: number of output features.
      kernel_size: size of the window.
      strides: of the window; None means 1.
      padding: see `fx_linen.Conv`.
      input_dilation: see there.
      kernel_dilation: see there.
      feature_group_count: see there.
      bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      precision: see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      param_dtype: dtype of the parameters.

    Returns:
      An array of shape ``(*batch, *windows, features)``.

    Raises:
      ArgumentError: kernel size, strides or dilations do not fit.
      ArgumentError: the groups do not divide the features.
    """
    plan = conv_ops.plan_conv(kernel_size, strides, padding, input_dilation, kernel_dilation, feature_group_count)
    specs = conv_ops.conv_params(plan.kernel_size, features_of(inputs), features, feature_group_count, bias)
    params = kernel_and_bias(scope, specs, param_dtype, kernel_init, bias_init)
    inputs, *params = promote_dtype(inputs, *params, dtype=dtype)
    return conv_ops.conv(plan, inputs, *params, precision=precision)


def conv_transpose(
    scope: Scope,
    inputs: jax.Array,
    features: int,
    kernel_size: Sizes,
    strides: Sizes | None = None,
    padding: Any = "SAME",
    kernel_dilation: Sizes | None = None,
    bias: bool = True,
    dtype: Dtype | None = None,
    precision: PrecisionLike = None,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
    *,
    param_dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Applies a transposed convolution, see `fx_linen.ConvTranspose`.

    Args:
      scope: gets ``kernel`` ``(*kernel_size, in, features)`` and ``bias`` (features,).
      inputs: shape ``(*batch, *space, in)``.
      features: number of output features.
      kernel_size: size of the window.
      strides: distance of input values in the result; None means 1.
      padding: see `fx_linen.ConvTranspose`.
      kernel_dilation: distance of kernel values.
      bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      precision: see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      param_dtype: dtype of the parameters.

    Returns:
      An array of shape ``(*batch, *larger_space, features)``.

    Raises:
      ArgumentError: kernel size, strides or dilation do not fit.
    """
    plan = conv_ops.plan_conv_transpose(kernel_size, strides, padding, kernel_dilation)
    specs = conv_ops.conv_transpose_params(plan, features_of(inputs), features, bias)
    params = kernel_and_bias(scope, specs, param_dtype, kernel_init, bias_init)
    inputs, *params = promote_dtype(inputs, *params, dtype=dtype)
    return conv_ops.conv_transpose(plan, inputs, *params, precision=precision)
