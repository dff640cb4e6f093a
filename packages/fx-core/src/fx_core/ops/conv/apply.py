"""Convolutions with one kernel for all positions, and with a kernel per position."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.array_node import ArrayNode, array_of, is_array_node
from fx_core.errors.kinds import ShapeMismatchError
from fx_core.errors.ops import conv_feature_groups
from fx_core.ops import contract
from fx_core.ops.broadcast import along
from fx_core.ops.contract import Contraction
from fx_core.ops.conv.plan import ConvPlan
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import ParamSpec
from fx_core.typing import PrecisionLike

__all__ = ["conv", "conv_local", "conv_local_params", "dimension_numbers", "flatten_batch", "masked", "unflatten_batch"]


def conv(
    plan: ConvPlan,
    inputs: jax.Array,
    kernel: jax.Array | ArrayNode,
    bias: jax.Array | ArrayNode | None = None,
    *,
    precision: PrecisionLike = None,
    conv_general_dilated: Contraction | None = None,
    **options: Any,
) -> jax.Array:
    """Slides a kernel over the spatial dimensions of the input.

    Args:
      plan: from `fx_core.ops.conv.plan_conv`.
      inputs: shape ``(*batch, *space, in)`` with any number of batch dimensions, none included.
      kernel: shape ``(*kernel_size, in // groups, out)``.
      bias: shape ``(out,)``, or None.
      precision: of the multiplication, see `jax.lax.Precision`.
      conv_general_dilated: replaces `jax.lax.conv_general_dilated`.
      **options: handed to it: ``preferred_element_type``, ``out_sharding``.

    Returns:
      An array of shape ``(*batch, *windows, out)``.

    Raises:
      ShapeMismatchError: the input has fewer dimensions than the kernel needs.

    >>> import jax.numpy as jnp
    >>> from fx_core.ops.conv import plan_conv
    >>> conv(plan_conv((2,), padding="CAUSAL"), jnp.arange(4.0).reshape(4, 1), jnp.ones((2, 1, 1)))[:, 0]
    Array([0., 1., 3., 5.], dtype=float32)
    """
    flat, batch = flatten_batch(inputs, plan.rank)
    result = contract.conv_general_dilated(
        _pad(plan, flat),
        kernel,
        plan.strides,
        plan.padding,
        lhs_dilation=plan.input_dilation,
        rhs_dilation=plan.kernel_dilation,
        dimension_numbers=dimension_numbers(plan.rank),
        feature_group_count=plan.groups,
        precision=precision,
        replacement=conv_general_dilated,
        **options,
    )
    if bias is not None:
        result = result + along(bias, range(plan.rank + 1))
    return unflatten_batch(result, batch)


def conv_local_params(
    plan: ConvPlan, inputs_shape: tuple[int, ...], features: int, use_bias: bool = True
) -> dict[str, ParamSpec]:
    """Returns the parameters of `conv_local`, by name, which depend on the size of the image.

    Args:
      plan: from `fx_core.ops.conv.plan_conv`.
      inputs_shape: shape ``(*batch, *space, in)``.
      features: number of output features.
      use_bias: whether there is a bias.

    Raises:
      ArgumentError: the plan has feature groups.
      ShapeMismatchError: the input has fewer dimensions than the kernel needs.

    >>> from fx_core.ops.conv import plan_conv
    >>> conv_local_params(plan_conv((3,), padding="VALID"), (1, 6, 2), 5)["kernel"].shape
    (4, 6, 5)
    """
    if plan.groups != 1:
        raise conv_feature_groups(plan.groups, None, "A local convolution has no feature groups.")
    if len(inputs_shape) < plan.rank + 1:
        raise _conv_input_rank(inputs_shape, plan.rank)
    in_features = inputs_shape[-1]
    image = jax.ShapeDtypeStruct((1, *inputs_shape[-plan.rank - 1 :]), jnp.float32)
    kernel = jax.ShapeDtypeStruct((*plan.kernel_size, in_features, features), jnp.float32)
    windows = jax.eval_shape(lambda x, k: conv(plan, x, k), image, kernel).shape[1:-1]
    space = tuple(f"space_{i}" for i in range(plan.rank))
    shape = (*windows, math.prod(plan.kernel_size) * in_features, features)
    params = {"kernel": ParamSpec(shape, default_kernel_init, (*space, "in", "out"))}
    if use_bias:
        params["bias"] = ParamSpec((*windows, features), default_bias_init, (*space, "out"))
    return params


def conv_local(
    plan: ConvPlan,
    inputs: jax.Array,
    kernel: jax.Array | ArrayNode,
    bias: jax.Array | ArrayNode | None = None,
    *,
    precision: PrecisionLike = None,
) -> jax.Array:
    """Slides a window over the spatial dimensions and use another kernel at each position.

    Args:
      plan: from `fx_core.ops.conv.plan_conv`, without feature groups.
      inputs: shape ``(*batch, *space, in)`` with any number of batch dimensions, none included.
      kernel: shape ``(*windows, in * prod(kernel_size), out)``.
      bias: shape ``(*windows, out)``, or None.
      precision: of the multiplication, see `jax.lax.Precision`.

    Returns:
      An array of shape ``(*batch, *windows, out)``.

    Raises:
      ShapeMismatchError: the input has fewer dimensions than the kernel needs.

    >>> import jax.numpy as jnp
    >>> from fx_core.ops.conv import plan_conv
    >>> kernel = jnp.array([1.0, 10.0]).reshape(2, 1, 1) * jnp.ones((2, 2, 1))
    >>> conv_local(plan_conv((2,), padding="VALID"), jnp.arange(3.0).reshape(3, 1), kernel)[:, 0]
    Array([ 1., 30.], dtype=float32)
    """
    flat, batch = flatten_batch(inputs, plan.rank)
    result = lax.conv_general_dilated_local(
        lhs=_pad(plan, flat),
        rhs=array_of(kernel),
        window_strides=plan.strides,
        padding=plan.padding,
        filter_shape=plan.kernel_size,
        lhs_dilation=plan.input_dilation,
        rhs_dilation=plan.kernel_dilation,
        dimension_numbers=dimension_numbers(plan.rank),
        precision=precision,
    )
    if bias is not None:
        result = result + along(bias, (0,))
    return unflatten_batch(result, batch)


def masked(kernel: Any, mask: Any) -> Any:
    """Multiplies a kernel with a mask of the same shape; None leaves it.

    Raises:
      ShapeMismatchError: the shapes differ.
    """
    if mask is None:
        return kernel
    if tuple(mask.shape) != kernel.shape:
        raise ShapeMismatchError(
            "The mask must have the same shape as the kernel.",
            expected=tuple(kernel.shape),
            got=tuple(mask.shape),
            fix="give the mask one entry per kernel entry (jnp.broadcast_to)",
        )
    return kernel.masked(mask) if is_array_node(kernel) else array_of(kernel) * mask


def flatten_batch(inputs: jax.Array, rank: int) -> tuple[jax.Array, tuple[int, ...]]:
    """Creates the batch one dimension.

    Returns:
      The array of shape ``(batch, *space, features)`` and the batch dimensions that it had.

    Raises:
      ShapeMismatchError: the input has fewer dimensions than the kernel needs.
    """
    batch = inputs.ndim - rank - 1
    if batch == 1:
        return inputs, inputs.shape[:1]
    if batch < 0:
        raise _conv_input_rank(inputs.shape, rank)
    sizes = inputs.shape[:batch]
    return inputs.reshape((math.prod(sizes), *inputs.shape[batch:])), sizes


def unflatten_batch(result: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    """Undoes `flatten_batch`."""
    return result if len(batch) == 1 else result.reshape((*batch, *result.shape[1:]))


def dimension_numbers(rank: int) -> lax.ConvDimensionNumbers:
    """Layout of all convolutions here: ``(batch, *space, features)`` and ``(*window, in, out)``."""
    image = (0, rank + 1, *range(1, rank + 1))
    return lax.ConvDimensionNumbers(image, (rank + 1, rank, *range(rank)), image)


def _pad(plan: ConvPlan, inputs: jax.Array) -> jax.Array:
    if plan.pad_mode is None:
        return inputs
    return jnp.pad(inputs, ((0, 0), *plan.pad_width, (0, 0)), mode=plan.pad_mode)


def _conv_input_rank(shape: Sequence[Any], rank: int) -> ShapeMismatchError:
    return ShapeMismatchError(
        f"The input has too few dimensions for a convolution with {rank} spatial dimension(s).",
        expected=f"(*batch, {'space, ' * rank}features)",
        got=tuple(shape),
        fix="add the missing dimension, often the features: x[..., None]",
    )
