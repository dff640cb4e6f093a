"""Linear maps: over the last axis, over any axes, and by an einsum equation."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from fx_core.array_node import ArrayNode, array_of
from fx_core.errors.kinds import ArgumentError, ShapeMismatchError
from fx_core.errors.ops import invalid_axes
from fx_core.ops import contract
from fx_core.ops.broadcast import along
from fx_core.ops.contract import Contraction
from fx_core.ops.einsum import EinsumPlan, check_einsum, einsum, einsum_params, plan_einsum
from fx_core.ops.initializers import default_bias_init, default_kernel_init, flattened
from fx_core.ops.params import Initializer, ParamSpec
from fx_core.ops.recorded import recorded_once
from fx_core.typing import PrecisionLike

__all__ = [
    "DenseGeneralPlan",
    "EinsumPlan",
    "check_einsum",
    "dense",
    "dense_general",
    "dense_general_params",
    "dense_params",
    "einsum",
    "einsum_params",
    "low_rank",
    "plan_dense_general",
    "plan_einsum",
]


def dense_params(in_features: int, features: int, use_bias: bool = True) -> dict[str, ParamSpec]:
    """Returns the parameters of `dense`, by name.

    >>> {name: spec.shape for name, spec in dense_params(3, 2).items()}
    {'kernel': (3, 2), 'bias': (2,)}
    """
    params = {"kernel": ParamSpec((in_features, features), default_kernel_init, ("in", "out"))}
    if use_bias:
        params["bias"] = ParamSpec((features,), default_bias_init, ("out",))
    return params


def dense(
    inputs: jax.Array,
    kernel: jax.Array | ArrayNode,
    bias: jax.Array | ArrayNode | None = None,
    *,
    precision: PrecisionLike = None,
    dot_general: Contraction | None = None,
    **options: Any,
) -> jax.Array:
    """Computes ``inputs @ kernel + bias`` over the last axis.

    Args:
      inputs: shape ``(..., in)``.
      kernel: shape ``(in, out)``; an array, or an `fx_core.array_node.ArrayNode`.
      bias: shape ``(out,)``, or None.
      precision: of the multiplication, see `jax.lax.Precision`.
      dot_general: replaces `jax.lax.dot_general`, for instance by one in low precision.
      **options: handed to ``dot_general``: ``preferred_element_type``, ``out_sharding``.

    Returns:
      An array of shape ``(..., out)``.

    >>> import jax.numpy as jnp
    >>> dense(jnp.ones((1, 3)), jnp.ones((3, 2)), jnp.array([0.0, 1.0]))
    Array([[3., 4.]], dtype=float32)
    """
    if dot_general is None and not options:
        return recorded_once(_dense, (inputs, kernel, bias), {"precision": precision})
    return _dense(inputs, kernel, bias, dot_general=dot_general, precision=precision, **options)


def _dense(inputs: Any, kernel: Any, bias: Any, *, dot_general: Contraction | None = None, **options: Any) -> jax.Array:
    dims = (((inputs.ndim - 1,), (0,)), ((), ()))
    result = contract.dot_general(inputs, kernel, dims, dot_general, **options)
    return result if bias is None else result + along(bias, range(result.ndim - bias.ndim))


def low_rank(inputs: jax.Array, a: jax.Array, b: jax.Array, *, precision: PrecisionLike = None) -> jax.Array:
    """Computes ``inputs @ a @ b``, the change that a low-rank adapter makes.

    Args:
      inputs: shape ``(..., in)``.
      a: shape ``(in, rank)``.
      b: shape ``(rank, out)``.
      precision: of the multiplications, see `jax.lax.Precision`.

    Returns:
      An array of shape ``(..., out)``.

    >>> import jax.numpy as jnp
    >>> low_rank(jnp.ones((1, 3)), jnp.ones((3, 2)), jnp.ones((2, 1)))
    Array([[6.]], dtype=float32)
    """
    return dense(dense(inputs, a, precision=precision), b, precision=precision)


@dataclasses.dataclass(frozen=True)
class DenseGeneralPlan:
    """The axes of a dense layer over any axes, normalized. See `plan_dense_general`.

    Attributes:
      features: sizes of the output axes, which come last.
      axis: input axes that are contracted with the kernel, in ascending order.
      batch_dims: leading input axes that have a kernel each.
      free: input axes that stay and share kernels.
    """

    features: tuple[int, ...]
    axis: tuple[int, ...]
    batch_dims: tuple[int, ...]
    free: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def _plan_dense_general(
    ndim: int, features: tuple[int, ...], axis: tuple[int, ...], batch_dims: tuple[int, ...]
) -> DenseGeneralPlan:
    contracted, batch = _positive(axis, ndim, "axis"), _positive(batch_dims, ndim, "batch_dims")
    if batch != tuple(range(len(batch))):
        raise ArgumentError(
            "Batch dimensions must be consecutive leading dimensions, starting from 0.",
            expected=f"batch_dims={tuple(range(len(batch_dims)))}",
            got=f"batch_dims={tuple(batch_dims)}",
            fix="move the batch axes of the input to the front (jnp.moveaxis)",
        )
    if set(contracted) & set(batch):
        raise invalid_axes("axis, which overlaps batch_dims,", axis, ndim)
    free = tuple(i for i in range(ndim) if i not in contracted and i not in batch)
    return DenseGeneralPlan(features, contracted, batch, free)


def plan_dense_general(
    ndim: int, features: int | Sequence[int], axis: int | Sequence[int] = -1, batch_dims: Sequence[int] = ()
) -> DenseGeneralPlan:
    """Checks and normalizes the axes of `dense_general`.

    Args:
      ndim: number of dimensions of the input.
      features: sizes of the output axes.
      axis: input axes to contract.
      batch_dims: leading input axes that have a kernel each.

    Returns:
      The plan; equal arguments give the same object.

    Raises:
      ShapeMismatchError: an axis is outside the input, or named twice.
      ArgumentError: the batch dimensions are not the leading ones.

    >>> plan_dense_general(4, (8, 2), axis=(1, -1), batch_dims=(0,)).free
    (2,)
    """
    return _plan_dense_general(ndim, _ints(features), _ints(axis), _ints(batch_dims))


def dense_general_params(
    batch: Sequence[int],
    contracted: Sequence[int],
    features: Sequence[int],
    use_bias: bool = True,
    kernel_init: Initializer = default_kernel_init,
    bias_init: Initializer = default_bias_init,
) -> dict[str, ParamSpec]:
    """Returns the parameters of `dense_general`, by name.

    Args:
      batch: sizes of the batch axes.
      contracted: sizes of the contracted axes, in ascending order of the axes.
      features: sizes of the output axes.
      use_bias: whether there is a bias.
      kernel_init: initializer for the kernel; it gets the kernel as one matrix.
      bias_init: initializer for the bias; it gets the bias as one vector.

    >>> {name: spec.shape for name, spec in dense_general_params((), (3, 4), (5,)).items()}
    {'kernel': (3, 4, 5), 'bias': (5,)}
    """
    batch, contracted, features = tuple(batch), tuple(contracted), tuple(features)
    out_axes = ("batch",) * len(batch), ("out",) * len(features)
    kernel_groups = (len(batch) + len(contracted), len(features))
    params = {
        "kernel": ParamSpec(
            batch + contracted + features,
            flattened(kernel_init, kernel_groups),
            out_axes[0] + ("in",) * len(contracted) + out_axes[1],
        )
    }
    if use_bias:
        params["bias"] = ParamSpec(
            batch + features, flattened(bias_init, (len(batch) + len(features),)), out_axes[0] + out_axes[1]
        )
    return params


def dense_general(
    plan: DenseGeneralPlan,
    inputs: jax.Array,
    kernel: jax.Array | ArrayNode,
    bias: jax.Array | ArrayNode | None = None,
    *,
    precision: PrecisionLike = None,
    dot_general: Contraction | None = None,
    **options: Any,
) -> jax.Array:
    """Contracts some axes of the input with a kernel.

    Args:
      plan: from `plan_dense_general`.
      inputs: an array of the planned number of dimensions.
      kernel: shape ``(*batch, *contracted, *features)``.
      bias: shape ``(*batch, *features)``, or None.
      precision: of the multiplication, see `jax.lax.Precision`.
      dot_general: replaces `jax.lax.dot_general`.
      **options: handed to ``dot_general``: ``preferred_element_type``, ``out_sharding``.

    Returns:
      An array of shape ``(*batch, *free, *features)``.

    Raises:
      ShapeMismatchError: the input does not have the sizes of the kernel.

    >>> import jax.numpy as jnp
    >>> x = jnp.ones((2, 3, 4))
    >>> dense_general(plan_dense_general(3, 5, axis=(1, 2)), x, jnp.ones((3, 4, 5))).shape
    (2, 5)
    """
    batch = len(plan.batch_dims)
    joined = (*plan.batch_dims, *plan.axis)
    if tuple([inputs.shape[axis] for axis in joined]) != kernel.shape[: len(joined)]:
        raise ShapeMismatchError(
            "The input does not have the sizes of the kernel.",
            expected=f"sizes {kernel.shape[: len(joined)]} in the axes {joined}, as the kernel of shape {kernel.shape}",
            got=f"shape {inputs.shape}",
            fix="give the input these sizes, or make the layer for those that it has",
        )
    kernel_axes = tuple(range(batch, batch + len(plan.axis)))
    dims = ((plan.axis, kernel_axes), (plan.batch_dims, tuple(range(batch))))
    result = contract.dot_general(inputs, kernel, dims, dot_general, precision=precision, **options)
    if bias is None:
        return result
    return result + lax.expand_dims(array_of(bias), range(batch, batch + len(plan.free)))


def _ints(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


def _positive(axes: tuple[int, ...], ndim: int, what: str) -> tuple[int, ...]:
    positive = tuple(axis + ndim if axis < 0 else axis for axis in axes)
    if any(not 0 <= axis < ndim for axis in positive) or len(set(positive)) != len(positive):
        raise invalid_axes(what, axes, ndim)
    return tuple(sorted(positive))
