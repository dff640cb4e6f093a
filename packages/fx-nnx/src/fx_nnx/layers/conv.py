"""Convolutions."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import conv
from fx_core.ops.conv.plan import hashable
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype, PrecisionLike
from jax import lax

from fx_nnx.layers.params import check_features, fetch, located, make_param, promote_dtype, set_options, value_of
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs

__all__ = ["Conv", "ConvTranspose"]

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class Conv(Module):
    """Slides a kernel over the spatial dimensions.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> Conv(3, 8, (3, 3), strides=2, rngs=nnx.Rngs(0))(jnp.ones((1, 8, 8, 3))).shape
    (1, 4, 4, 8)

    Args:
      in_features: number of input features.
      out_features: number of output features.
      kernel_size: window in each spatial dimension; an integer means one dimension.
      strides: step of the window.
      padding: ``"SAME"``, ``"VALID"``, ``"CIRCULAR"``, ``"REFLECT"``, ``"CAUSAL"``, an integer, or pairs of them.
      input_dilation: distance of input values.
      kernel_dilation: distance of kernel values.
      feature_group_count: number of groups that the features are divided into.
      use_bias: whether to add a bias.
      mask: multiplied with the kernel.
      dtype: dtype of the computation (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel, of shape ``(*kernel_size, in_features // groups, out_features)``.
      bias_init: initializer for the bias, of shape ``(out_features,)``.
      conv_general_dilated: replaces `jax.lax.conv_general_dilated`.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      preferred_element_type: dtype that products are summed in.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the variable ``kernel``.
      bias_metadata: metadata of the variable ``bias``.

    Raises:
      ArgumentError: sizes that are not positive or do not fit each other.
      ArgumentError: an unknown padding.
      ArgumentError: the groups do not divide the features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = 1,
        *,
        padding: Any = "SAME",
        input_dilation: int | Sequence[int] | None = 1,
        kernel_dilation: int | Sequence[int] | None = 1,
        feature_group_count: int = 1,
        use_bias: bool = True,
        mask: Any = None,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        precision: PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = default_bias_init,
        conv_general_dilated: Callable[..., Any] = lax.conv_general_dilated,
        promote_dtype: Callable[..., Any] = promote_dtype,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = _NO_METADATA,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self.kernel_size = (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.strides, self.padding = hashable(strides), hashable(padding)
        self.input_dilation, self.kernel_dilation = hashable(input_dilation), hashable(kernel_dilation)
        self.feature_group_count = feature_group_count
        _plan(self)  # an impossible window is an error here, not at the first call
        shapes = conv.conv_params(self.kernel_size, in_features, out_features, feature_group_count, use_bias)
        self.kernel_shape = shapes["kernel"].shape
        self.kernel = make_param(rngs, kernel_init, self.kernel_shape, param_dtype, kernel_metadata)
        self.bias = data(None)
        if use_bias:
            self.bias = make_param(rngs, bias_init, shapes["bias"].shape, param_dtype, bias_metadata)
        self.in_features, self.out_features, self.use_bias = in_features, out_features, use_bias
        self.mask, self.dtype, self.param_dtype, self.precision = data(mask), dtype, param_dtype, precision
        self.conv_general_dilated, self.promote_dtype = conv_general_dilated, promote_dtype
        self.preferred_element_type = preferred_element_type

    @located
    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: shape ``(*batch, *space, in_features)`` with any number of batch dimensions, none included.
          out_sharding: sharding of the result.

        Returns:
          An array of shape ``(*batch, *windows, out_features)``.

        Raises:
          ShapeMismatchError: the input has another number of features.
          ShapeMismatchError: the input has too few dimensions.
          ShapeMismatchError: the mask has another shape than the kernel.
        """
        inputs = check_features(self, value_of(self.kernel).shape[-2] * self.feature_group_count, inputs)
        kernel = conv.masked(fetch(self, "kernel"), self.mask)
        x, kernel, bias = self.promote_dtype((inputs, kernel, value_of(self.bias)), dtype=self.dtype)
        options = set_options(preferred_element_type=self.preferred_element_type, out_sharding=out_sharding)
        return conv.conv(
            _plan(self),
            x,
            kernel,
            bias,
            precision=self.precision,
            conv_general_dilated=self.conv_general_dilated,
            **options,
        )


class ConvTranspose(Module):
    """Spreads each input value over a window: the transpose of a convolution.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> ConvTranspose(3, 8, (3, 3), strides=(2, 2), rngs=nnx.Rngs(0))(jnp.ones((1, 4, 4, 3))).shape
    (1, 8, 8, 8)

    Args:
      in_features: number of input features.
      out_features: number of output features.
      kernel_size: window in each spatial dimension; an integer means one dimension.
      strides: distance of input values in the result.
      padding: ``"SAME"``, ``"VALID"``, ``"CIRCULAR"``, an integer, or pairs of them.
      kernel_dilation: distance of kernel values.
      use_bias: whether to add a bias.
      mask: multiplied with the kernel.
      dtype: dtype of the computation (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel, of shape ``(*kernel_size, in_features, out_features)``, the last two
        swapped with ``transpose_kernel``.
      bias_init: initializer for the bias, of shape ``(out_features,)``.
      transpose_kernel: whether the kernel is that of the convolution which is transposed.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      preferred_element_type: dtype that products are summed in.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the variable ``kernel``.
      bias_metadata: metadata of the variable ``bias``.

    Raises:
      ArgumentError: sizes that are not positive or do not fit each other.
      ArgumentError: an unknown padding.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] | None = None,
        *,
        padding: Any = "SAME",
        kernel_dilation: int | Sequence[int] | None = None,
        use_bias: bool = True,
        mask: Any = None,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        precision: PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = default_bias_init,
        transpose_kernel: bool = False,
        promote_dtype: Callable[..., Any] = promote_dtype,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = _NO_METADATA,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self.kernel_size = (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.strides, self.padding, self.kernel_dilation = (
            hashable(strides),
            hashable(padding),
            hashable(kernel_dilation),
        )
        self.transpose_kernel = transpose_kernel
        shapes = conv.conv_transpose_params(_plan_transpose(self), in_features, out_features, use_bias)
        self.kernel_shape = shapes["kernel"].shape
        self.kernel = make_param(rngs, kernel_init, self.kernel_shape, param_dtype, kernel_metadata)
        self.bias = data(None)
        if use_bias:
            self.bias = make_param(rngs, bias_init, shapes["bias"].shape, param_dtype, bias_metadata)
        self.in_features, self.out_features, self.use_bias = in_features, out_features, use_bias
        self.mask, self.dtype, self.param_dtype, self.precision = data(mask), dtype, param_dtype, precision
        self.promote_dtype, self.preferred_element_type = promote_dtype, preferred_element_type

    @located
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: shape ``(*batch, *space, in_features)`` with any number of batch dimensions, none included.

        Returns:
          An array of shape ``(*batch, *windows, out_features)``.

        Raises:
          ShapeMismatchError: the input has another number of features.
          ShapeMismatchError: the input has too few dimensions.
          ShapeMismatchError: the mask has another shape than the kernel.
        """
        inputs = check_features(self, value_of(self.kernel).shape[-1 if self.transpose_kernel else -2], inputs)
        kernel = conv.masked(fetch(self, "kernel"), self.mask)
        x, kernel, bias = self.promote_dtype((inputs, kernel, value_of(self.bias)), dtype=self.dtype)
        options = set_options(preferred_element_type=self.preferred_element_type)
        return conv.conv_transpose(_plan_transpose(self), x, kernel, bias, precision=self.precision, **options)


# Functions, not methods: programs call the layers with other objects of the same attributes in their place.


def _plan(layer: Conv) -> conv.ConvPlan:
    return conv.plan_conv(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        layer.input_dilation,
        layer.kernel_dilation,
        layer.feature_group_count,
    )


def _plan_transpose(layer: ConvTranspose) -> conv.ConvTransposePlan:
    return conv.plan_conv_transpose(
        layer.kernel_size, layer.strides, layer.padding, layer.kernel_dilation, layer.transpose_kernel
    )
