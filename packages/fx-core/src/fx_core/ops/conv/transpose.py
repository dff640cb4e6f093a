"""Transposed convolutions, also on a torus."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.array_node import ArrayNode, array_of
from fx_core.ops.broadcast import along
from fx_core.ops.conv.apply import dimension_numbers, flatten_batch, unflatten_batch
from fx_core.ops.conv.plan import LAX_NAMES, LaxPadding, PaddingLike, hashable, normalize_padding, normalize_window
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import ParamSpec
from fx_core.typing import Dtype, PrecisionLike

__all__ = ["ConvTransposePlan", "conv_transpose", "conv_transpose_params", "plan_conv_transpose"]


@dataclasses.dataclass(frozen=True)
class ConvTransposePlan:
    """The static arguments of a transposed convolution, normalized. See `plan_conv_transpose`.

    Attributes:
      kernel_size: window in each spatial dimension.
      strides: distance of input values in the result.
      padding: what `jax.lax.conv_transpose` takes.
      kernel_dilation: distance of kernel values.
      circular: whether what leaves the image on one side comes in on the other.
      transpose_kernel: whether the kernel is that of the convolution which is transposed: flipped, features swapped.
    """

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: LaxPadding
    kernel_dilation: tuple[int, ...]
    circular: bool
    transpose_kernel: bool

    @property
    def rank(self) -> int:
        """Number of spatial dimensions."""
        return len(self.kernel_size)


def plan_conv_transpose(
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: PaddingLike = "SAME",
    kernel_dilation: int | Sequence[int] | None = None,
    transpose_kernel: bool = False,
) -> ConvTransposePlan:
    """Checks and normalizes the static arguments of a transposed convolution.

    Args:
      kernel_size: window in each spatial dimension; an integer means one spatial dimension.
      strides: distance of input values in the result; an integer is for every dimension, None means 1.
      padding: ``"SAME"``, ``"VALID"``, ``"CIRCULAR"``, an integer, or an integer or pair per spatial dimension.
      kernel_dilation: distance of kernel values.
      transpose_kernel: whether the kernel is that of the convolution which is transposed.

    Returns:
      The plan; equal arguments give the same object.

    Raises:
      ArgumentError: sizes that are not positive or do not fit the number of spatial dimensions.
      ArgumentError: a padding that is not known.

    >>> plan_conv_transpose((3, 3), strides=2, padding="CIRCULAR").circular
    True
    """
    sizes = normalize_window("kernel_size", kernel_size, None)
    return _plan(sizes, hashable(strides), hashable(padding), hashable(kernel_dilation), transpose_kernel)


@functools.lru_cache(maxsize=4096)
def _plan(
    kernel_size: tuple[int, ...], strides: Any, padding: Any, dilation: Any, transpose_kernel: bool
) -> ConvTransposePlan:
    rank = len(kernel_size)
    padding = normalize_padding(padding, rank, (LAX_NAMES - {"SAME_LOWER"}) | {"CIRCULAR"})
    circular = padding == "CIRCULAR"
    return ConvTransposePlan(
        kernel_size,
        normalize_window("strides", strides, rank),
        "VALID" if circular else padding,
        normalize_window("kernel_dilation", dilation, rank),
        circular,
        transpose_kernel,
    )


def conv_transpose_params(
    plan: ConvTransposePlan, in_features: int, features: int, use_bias: bool = True
) -> dict[str, ParamSpec]:
    """Returns the parameters of `conv_transpose`, by name.

    >>> conv_transpose_params(plan_conv_transpose((3,)), 4, 8)["kernel"].shape
    (3, 4, 8)
    >>> conv_transpose_params(plan_conv_transpose((3,), transpose_kernel=True), 4, 8)["kernel"].shape
    (3, 8, 4)
    """
    ends = (("in", in_features), ("out", features))
    (first, n_first), (second, n_second) = reversed(ends) if plan.transpose_kernel else ends
    space = tuple(f"window_{i}" for i in range(plan.rank))
    shape = (*plan.kernel_size, n_first, n_second)
    params = {"kernel": ParamSpec(shape, default_kernel_init, (*space, first, second))}
    if use_bias:
        params["bias"] = ParamSpec((features,), default_bias_init, ("out",))
    return params


def conv_transpose(
    plan: ConvTransposePlan,
    inputs: jax.Array,
    kernel: jax.Array | ArrayNode,
    bias: jax.Array | ArrayNode | None = None,
    *,
    precision: PrecisionLike = None,
    preferred_element_type: Dtype | None = None,
) -> jax.Array:
    """Spreads every input value over a window of the result: the transpose of a convolution.

    Args:
      plan: from `plan_conv_transpose`.
      inputs: shape ``(*batch, *space, in)`` with any number of batch dimensions, none included.
      kernel: shape ``(*kernel_size, in, out)``; with ``transpose_kernel`` ``(*kernel_size, out, in)``.
      bias: shape ``(out,)``, or None.
      precision: of the multiplication, see `jax.lax.Precision`.
      preferred_element_type: dtype to accumulate in.

    Returns:
      An array of shape ``(*batch, *larger_space, out)``; circular: ``space * strides``. Circular with
      ``transpose_kernel`` it is the adjoint of `fx_core.ops.conv.conv` with the same kernel and padding, for an image
      whose sizes the strides divide.

    Raises:
      ShapeMismatchError: the input has fewer dimensions than the kernel needs.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 10.0]).reshape(2, 1)
    >>> conv_transpose(plan_conv_transpose((2,), strides=2), x, jnp.ones((2, 1, 1)))[:, 0]
    Array([ 1.,  1., 10., 10.], dtype=float32)
    """
    flat, batch = flatten_batch(inputs, plan.rank)
    result = lax.conv_transpose(
        flat,
        array_of(kernel),
        plan.strides,
        plan.padding,
        rhs_dilation=plan.kernel_dilation,
        dimension_numbers=dimension_numbers(plan.rank),
        transpose_kernel=plan.transpose_kernel,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )
    if plan.circular:
        result = _wrap(plan, result, flat.shape[1:-1])
    if bias is not None:
        result = result + along(bias, range(plan.rank + 1))
    return unflatten_batch(result, batch)


def _wrap(plan: ConvTransposePlan, result: jax.Array, space: tuple[int, ...]) -> jax.Array:
    """Fold the result of a "VALID" convolution onto a torus of the size ``space * strides``.

    The overhang is shared out to both sides, so that the window of an input value lies around it. With the kernel of
    the convolution that is transposed, the window starts where that convolution's starts. Padding to whole periods and
    adding the periods does the folding.
    """
    for axis, (size, stride) in enumerate(zip(space, plan.strides), start=1):
        period = size * stride
        if plan.transpose_kernel:
            reach = (plan.kernel_size[axis - 1] - 1) * plan.kernel_dilation[axis - 1]
            before = -(reach // 2) % period
        else:
            missing = (period - result.shape[axis]) % (2 * period)  # an odd number of periods: middle stays middle
            before = (missing + 1) // 2
        after = -(before + result.shape[axis]) % period
        width = [(0, 0)] * result.ndim
        width[axis] = (before, after)
        padded = jnp.pad(result, width)
        folded = padded.reshape((*result.shape[:axis], -1, period, *result.shape[axis + 1 :]))
        result = folded.sum(axis=axis)
    return result
