"""Convolutions. The arithmetic is in `fx_core.ops.conv`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import conv
from fx_core.ops.conv.plan import PaddingLike
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype, PrecisionLike

from fx_linen.module import Module, compact, nowrap

__all__ = ["Conv", "ConvLocal", "ConvTranspose"]


class _Conv(Module):
    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] | None = 1
    padding: PaddingLike = "SAME"
    input_dilation: int | Sequence[int] | None = 1
    kernel_dilation: int | Sequence[int] | None = 1
    feature_group_count: int = 1
    use_bias: bool = True
    mask: Any = None
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = default_bias_init
    promote_dtype: Callable[..., Any] = promote_dtype
    conv_general_dilated: Callable[..., jax.Array] | None = None
    conv_general_dilated_cls: Any = None

    @nowrap
    def _plan(self) -> conv.ConvPlan:
        return conv.plan_conv(
            self.kernel_size,
            self.strides,
            self.padding,
            self.input_dilation,
            self.kernel_dilation,
            self.feature_group_count,
        )

    @nowrap
    def _arrays(self, inputs: Any, shapes: Any) -> list[Any]:
        kernel = self.param("kernel", self.kernel_init, shapes["kernel"].shape, self.param_dtype)
        kernel = conv.masked(kernel, self.mask)
        bias = self.param("bias", self.bias_init, shapes["bias"].shape, self.param_dtype) if self.use_bias else None
        return self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)


class Conv(_Conv):
    """Convolution with one kernel for all positions.

    Attributes:
      features: number of output features.
      kernel_size: window in each spatial dimension; an integer means one spatial dimension.
      strides: step of the window; an integer is for every dimension.
      padding: ``"SAME"``, ``"VALID"``, ``"CIRCULAR"``, ``"REFLECT"``, ``"CAUSAL"`` (one dimension), an integer, or an
        integer or pair (before, after) per spatial dimension.
      input_dilation: distance of input values (transposed convolution).
      kernel_dilation: distance of kernel values (atrous convolution).
      feature_group_count: number of feature groups; each sees its share of the input features.
      use_bias: whether to add a bias.
      mask: multiplied with the kernel; same shape.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of ``kernel`` ``(*kernel_size, in // groups, features)`` and ``bias`` (features,).
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      promote_dtype: brings inputs and parameters to one dtype.
      conv_general_dilated: replaces `jax.lax.conv_general_dilated`.
      conv_general_dilated_cls: a module or function that makes such a replacement; wins.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> y, variables = nn.Conv(8, (3, 3), strides=2).init_with_output(jax.random.key(0), jnp.ones((1, 6, 6, 2)))
    >>> y.shape, variables["params"]["kernel"].shape
    ((1, 3, 3, 8), (3, 3, 2, 8))
    """

    @compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Convolves.

        Args:
          inputs: shape ``(*batch, *space, in)`` with any number of batch dimensions, none included.

        Returns:
          An array of shape ``(*batch, *windows, features)``.

        Raises:
          ArgumentError: kernel size, strides or dilations do not fit.
          ArgumentError: a padding that is not known.
          ArgumentError: the groups do not divide the features.
          ShapeMismatchError: the input has too few dimensions.
          ShapeMismatchError: mask and kernel differ in shape.
        """
        plan = self._plan()
        shapes = conv.conv_params(
            plan.kernel_size, features_of(inputs), self.features, self.feature_group_count, self.use_bias
        )
        inputs, kernel, bias = self._arrays(inputs, shapes)
        convolve = self.conv_general_dilated
        if self.conv_general_dilated_cls is not None:
            convolve = self.conv_general_dilated_cls()
        return conv.conv(plan, inputs, kernel, bias, precision=self.precision, conv_general_dilated=convolve)


class ConvLocal(_Conv):
    """Convolution with a kernel of its own at every position.

    It has the attributes of `Conv`; feature groups and replacements of the convolution are not supported. Parameters
    are ``kernel`` ``(*windows, in * prod(kernel_size), features)`` and ``bias`` ``(*windows, features)``.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> variables = nn.ConvLocal(8, (3,), padding="VALID").init(jax.random.key(0), jnp.ones((1, 6, 2)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'bias': (4, 8), 'kernel': (4, 6, 8)}}
    """

    @compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Convolves.

        Args:
          inputs: shape ``(*batch, *space, in)`` with any number of batch dimensions, none included.

        Returns:
          An array of shape ``(*batch, *windows, features)``.

        Raises:
          ArgumentError: kernel size, strides or dilations do not fit.
          ArgumentError: a padding that is not known.
          ArgumentError: there are feature groups.
          ShapeMismatchError: the input has too few dimensions.
          ShapeMismatchError: mask and kernel differ in shape.
        """
        plan = self._plan()
        shapes = conv.conv_local_params(plan, jnp.shape(inputs), self.features, self.use_bias)
        inputs, kernel, bias = self._arrays(inputs, shapes)
        return conv.conv_local(plan, inputs, kernel, bias, precision=self.precision)


class ConvTranspose(Module):
    """Transposed convolution: every input value spreads over a window of the result.

    Attributes:
      features: number of output features.
      kernel_size: window in each spatial dimension; an integer means one spatial dimension.
      strides: distance of input values in the result; None means 1.
      padding: ``"SAME"``, ``"VALID"``, ``"CIRCULAR"``, an integer, or an integer or pair per spatial dimension.
      kernel_dilation: distance of kernel values.
      use_bias: whether to add a bias.
      mask: multiplied with the kernel; same shape.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of the parameters ``kernel`` ``(*kernel_size, in, features)`` and ``bias`` (features,).
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      transpose_kernel: whether the kernel is that of the convolution which is transposed: flipped, its last two
        dimensions are then (features, in).
      promote_dtype: brings inputs and parameters to one dtype.
      preferred_element_type: dtype to accumulate in.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> y, _ = nn.ConvTranspose(8, (3,), strides=(2,)).init_with_output(jax.random.key(0), jnp.ones((1, 5, 2)))
    >>> y.shape
    (1, 10, 8)
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] | None = None
    padding: PaddingLike = "SAME"
    kernel_dilation: int | Sequence[int] | None = None
    use_bias: bool = True
    mask: Any = None
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = default_bias_init
    transpose_kernel: bool = False
    promote_dtype: Callable[..., Any] = promote_dtype
    preferred_element_type: Any = None

    @compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Applies the transposed convolution.

        Args:
          inputs: shape ``(*batch, *space, in)`` with any number of batch dimensions, none included.

        Returns:
          An array of shape ``(*batch, *larger_space, features)``.

        Raises:
          ArgumentError: kernel size, strides or dilations do not fit.
          ArgumentError: a padding that is not known.
          ShapeMismatchError: the input has too few dimensions.
          ShapeMismatchError: mask and kernel differ in shape.
        """
        plan = conv.plan_conv_transpose(
            self.kernel_size, self.strides, self.padding, self.kernel_dilation, self.transpose_kernel
        )
        shapes = conv.conv_transpose_params(plan, features_of(inputs), self.features, self.use_bias)
        kernel = self.param("kernel", self.kernel_init, shapes["kernel"].shape, self.param_dtype)
        kernel = conv.masked(kernel, self.mask)
        bias = self.param("bias", self.bias_init, shapes["bias"].shape, self.param_dtype) if self.use_bias else None
        inputs, kernel, bias = self.promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        return conv.conv_transpose(
            plan,
            inputs,
            kernel,
            bias,
            precision=self.precision,
            preferred_element_type=self.preferred_element_type,
        )
