"""Linear layers: over the last axis, over any axes, and by an einsum equation."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import linear
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype, PrecisionLike
from jax import lax

from fx_nnx.layers.params import (
    as_array,
    check_features,
    fetch,
    located,
    make_param,
    promote_dtype,
    set_options,
    value_of,
)
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs

__all__ = ["Einsum", "Linear", "LinearGeneral"]

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class Linear(Module):
    """Computes ``x @ kernel + bias`` over the last axis.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> Linear(3, 2, rngs=nnx.Rngs(0))(jnp.ones((4, 3))).shape
    (4, 2)

    Args:
      in_features: size of the last axis of the input.
      out_features: size of the last axis of the output.
      use_bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel, of shape ``(in_features, out_features)``.
      bias_init: initializer for the bias, of shape ``(out_features,)``.
      dot_general: replaces `jax.lax.dot_general`.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      preferred_element_type: dtype that products are summed in.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the variable ``kernel``.
      bias_metadata: metadata of the variable ``bias``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        precision: PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = default_bias_init,
        dot_general: Callable[..., Any] = lax.dot_general,
        promote_dtype: Callable[..., Any] = promote_dtype,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = _NO_METADATA,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        shapes = linear.dense_params(in_features, out_features, use_bias)
        self.kernel = make_param(rngs, kernel_init, shapes["kernel"].shape, param_dtype, kernel_metadata)
        self.bias = data(None)
        if use_bias:
            self.bias = make_param(rngs, bias_init, shapes["bias"].shape, param_dtype, bias_metadata)
        self.in_features, self.out_features, self.use_bias = in_features, out_features, use_bias
        self.dtype, self.param_dtype, self.precision = dtype, param_dtype, precision
        self.dot_general, self.promote_dtype = dot_general, promote_dtype
        self.preferred_element_type = preferred_element_type

    @located
    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: shape ``(..., in_features)``.
          out_sharding: sharding of the result.

        Returns:
          An array of shape ``(..., out_features)``.

        Raises:
          ShapeMismatchError: the input has another number of features.
        """
        inputs = check_features(self, value_of(self.kernel).shape[-2], inputs)
        x, kernel, bias = self.promote_dtype((inputs, fetch(self, "kernel"), value_of(self.bias)), dtype=self.dtype)
        options = set_options(preferred_element_type=self.preferred_element_type, out_sharding=out_sharding)
        return linear.dense(x, kernel, bias, precision=self.precision, dot_general=self.dot_general, **options)


class LinearGeneral(Module):
    """Contracts some axes of the input with a kernel, over some batch axes or none.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> LinearGeneral((3, 4), (5, 6), axis=(-2, -1), rngs=nnx.Rngs(0))(jnp.ones((2, 3, 4))).shape
    (2, 5, 6)

    Args:
      in_features: sizes of the contracted axes.
      out_features: sizes of the new axes, which come last.
      axis: the axes to contract.
      batch_axis: leading axes of the input that have a kernel each, with their sizes.
      use_bias: whether to add a bias.
      dtype: dtype of the computation (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      kernel_init: initializer for the kernel; it gets the kernel as a matrix.
      bias_init: initializer for the bias; it gets the bias as a vector.
      precision: of the multiplication, see `jax.lax.Precision`.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      dot_general: replaces `jax.lax.dot_general`.
      dot_general_cls: makes such a function.
      preferred_element_type: dtype that products are summed in.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the variable ``kernel``.
      bias_metadata: metadata of the variable ``bias``.
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int | Sequence[int],
        *,
        axis: int | Sequence[int] = -1,
        batch_axis: Mapping[int, int] = MappingProxyType({}),
        use_bias: bool = True,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = default_bias_init,
        precision: PrecisionLike = None,
        promote_dtype: Callable[..., Any] = promote_dtype,
        dot_general: Callable[..., Any] | None = None,
        dot_general_cls: Any = None,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = _NO_METADATA,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self.in_features, self.out_features, self.axis = _tuple(in_features), _tuple(out_features), _tuple(axis)
        self.batch_axis = tuple(sorted(batch_axis.items()))
        batch = [size for _, size in self.batch_axis]
        specs = linear.dense_general_params(
            batch, self.in_features, self.out_features, use_bias, kernel_init, bias_init
        )
        kernel = specs["kernel"]
        self.kernel = make_param(rngs, kernel.init, kernel.shape, param_dtype, kernel_metadata)
        self.bias = data(None)
        if use_bias:
            self.bias = make_param(rngs, specs["bias"].init, specs["bias"].shape, param_dtype, bias_metadata)
        self.use_bias, self.dtype, self.param_dtype = use_bias, dtype, param_dtype
        self.precision, self.promote_dtype = precision, promote_dtype
        self.dot_general, self.dot_general_cls = dot_general, dot_general_cls
        self.preferred_element_type = preferred_element_type

    def __describe__(self) -> dict[str, Any]:
        return {"batch_axis": dict(self.batch_axis)}

    @located
    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: an array that has the batch axes and the contracted axes.
          out_sharding: sharding of the result.

        Returns:
          An array of shape ``(*batch, *rest, *out_features)``.

        Raises:
          ShapeMismatchError: the input has no such axes.
          ShapeMismatchError: it has other sizes there.
        """
        inputs = as_array(self, inputs)
        plan = linear.plan_dense_general(
            inputs.ndim, self.out_features, self.axis, tuple(axis for axis, _ in self.batch_axis)
        )
        x, kernel, bias = self.promote_dtype((inputs, fetch(self, "kernel"), value_of(self.bias)), dtype=self.dtype)
        dot_general = self.dot_general_cls() if self.dot_general_cls is not None else self.dot_general
        options = set_options(preferred_element_type=self.preferred_element_type, out_sharding=out_sharding)
        return linear.dense_general(plan, x, kernel, bias, precision=self.precision, dot_general=dot_general, **options)


class Einsum(Module):
    """Computes an einsum of the input and a kernel, and adds a bias.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> Einsum("nta,hab->nthb", (8, 2, 4), (8, 4), rngs=nnx.Rngs(0))(jnp.ones((16, 11, 2))).shape
    (16, 11, 8, 4)

    Args:
      einsum_str: the equation, of input and kernel; may be left to the call.
      kernel_shape: shape of the kernel.
      bias_shape: shape of the bias: the dimensions of the result that the kernel has. None for no bias.
      dtype: dtype of the computation (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      precision: of the multiplication, see `jax.lax.Precision`.
      kernel_init: initializer for the kernel.
      bias_init: initializer for the bias.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      einsum_op: replaces `jax.numpy.einsum`.
      preferred_element_type: dtype that products are summed in.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the variable ``kernel``.
      bias_metadata: metadata of the variable ``bias``.

    Raises:
      ArgumentError: the equation is not one of two operands and a result.
    """

    def __init__(
        self,
        einsum_str: str | None,
        kernel_shape: Sequence[int],
        bias_shape: Sequence[int] | None = None,
        *,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        precision: PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        bias_init: Initializer = default_bias_init,
        promote_dtype: Callable[..., Any] = promote_dtype,
        einsum_op: Callable[..., Any] = jnp.einsum,
        preferred_element_type: Any = None,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = _NO_METADATA,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self.einsum_str = einsum_str if einsum_str is None else linear.check_einsum(einsum_str)
        self.kernel_shape = tuple(kernel_shape)
        self.bias_shape = None if bias_shape is None else _tuple(bias_shape)
        self.kernel = make_param(rngs, kernel_init, self.kernel_shape, param_dtype, kernel_metadata)
        self.bias = data(None)
        if self.bias_shape is not None:
            self.bias = make_param(rngs, bias_init, self.bias_shape, param_dtype, bias_metadata)
        self.dtype, self.param_dtype, self.precision = dtype, param_dtype, precision
        self.promote_dtype, self.einsum_op = promote_dtype, einsum_op
        self.preferred_element_type = preferred_element_type

    @located
    def __call__(self, inputs: jax.Array, einsum_str: str | None = None, out_sharding: Any = None) -> jax.Array:
        """Applies the layer.

        Args:
          inputs: the first operand.
          einsum_str: the equation, if it is another one than at construction.
          out_sharding: sharding of the result.

        Returns:
          What the equation says.

        Raises:
          ArgumentError: there is no equation, or it does not fit the operands.
          ShapeMismatchError: the operands have other sizes than it says.
        """
        equation = linear.check_einsum(self.einsum_str if einsum_str is None else einsum_str)
        inputs = as_array(self, inputs)
        plan = linear.plan_einsum(equation, inputs.ndim, len(self.kernel_shape))
        x, kernel, bias = self.promote_dtype((inputs, fetch(self, "kernel"), value_of(self.bias)), dtype=self.dtype)
        options = set_options(preferred_element_type=self.preferred_element_type, out_sharding=out_sharding)
        return linear.einsum(plan, x, kernel, bias, precision=self.precision, einsum_op=self.einsum_op, **options)


def _tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)
