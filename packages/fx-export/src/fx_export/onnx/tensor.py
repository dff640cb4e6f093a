"""A value of the traced program as it lies in the ONNX graph."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat
from fx_core.typing import Dtype
from jax.core import max_dim

Dim = Any
"""A size: an integer, or an expression of symbolic sizes."""
Axes = tuple[int | None, ...]
Shape = tuple[Dim, ...]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value of the traced program.

    The file may hold its axes in another order, and axes along which it is constant not at all: transposes and
    broadcasts cost nothing until they are needed, and most of them cancel.

    Attributes:
      shape: as JAX sees it; sizes may be symbolic.
      dtype: as JAX sees it.
      axes: for each axis of the stored value the axis of ``shape`` that lies there, or None for an axis of size 1
        that stands for nothing. Axes of ``shape`` that are not listed are broadcast.
      stored: dtype of the stored value; bfloat16 is computed in float32.
      name: name of the stored value, None for a constant.
      constant: the stored value where it is known.
    """

    shape: Shape
    dtype: np.dtype
    axes: Axes
    stored: np.dtype
    name: str | None = None
    constant: np.ndarray | None = None

    @property
    def stored_shape(self) -> Shape:
        """Shape of the stored value."""
        return tuple(1 if axis is None else self.shape[axis] for axis in self.axes)

    @property
    def held(self) -> tuple[int, ...]:
        """The axes that are stored, in the order in which they lie."""
        return tuple(axis for axis in self.axes if axis is not None)

    @property
    def ndim(self) -> int:
        """Number of axes as JAX sees it."""
        return len(self.shape)

    @property
    def as_it_lies(self) -> bool:
        """Whether the stored value is the value."""
        return self.axes == tuple(range(self.ndim))

    def relabeled(self, shape: Sequence[Dim], axes: Sequence[int | None]) -> "Tensor":
        """Returns the same stored value as another view: its axes are others of another shape."""
        return dataclasses.replace(self, shape=tuple(shape), axes=tuple(axes))


def stored_tensor(name: str, shape: Sequence[Dim], dtype: Dtype, stored: Dtype | None = None) -> Tensor:
    """Returns a value that lies in the file as JAX sees it."""
    dtype = np.dtype(dtype)
    return Tensor(tuple(shape), dtype, tuple(range(len(shape))), np.dtype(stored or dtype), name)


def constant_tensor(array: Any, dtype: Dtype | None = None) -> Tensor:
    """Returns a constant; axes along which nothing changes are not stored."""
    array = np.asarray(array)
    axes: list[int | None] = list(range(array.ndim))
    kept = array
    for axis, size in enumerate(array.shape):
        if size == 1 or (size > 1 and array.strides[axis] == 0):
            kept = np.take(kept, [0], axis)
            axes[axis] = None
    return Tensor(array.shape, np.dtype(dtype or array.dtype), tuple(axes), array.dtype, constant=kept)


def is_static(shape: Sequence[Dim]) -> bool:
    """Returns whether no size is symbolic."""
    return all(isinstance(size, int | np.integer) for size in shape)


def at_least_zero(count: Dim) -> Dim:
    """Returns the larger of a size and zero, which may be unknown before the network runs."""
    return max(0, count) if is_static([count]) else max_dim(count, 0)


def surely_positive(size: Dim) -> bool:
    """Returns whether a size is 1 or larger for all values of its symbols."""
    try:
        return bool(size >= 1)
    except compat.InconclusiveDimensionOperation:
        return False


def at_least_one(size: Dim) -> Dim:
    """Returns the larger of a size and one."""
    return size if surely_positive(size) else max(1, size) if is_static([size]) else max_dim(size, 1)


def whole(tensor: Tensor) -> np.ndarray:
    """Returns the value of a constant as JAX sees it, as a view."""
    assert tensor.constant is not None
    held = tensor.held
    lying = tensor.constant.reshape([tensor.shape[axis] for axis in held])
    ordered = lying.transpose(np.argsort(held)) if held else lying
    spread = [tensor.shape[axis] if axis in held else 1 for axis in range(tensor.ndim)]
    return np.broadcast_to(ordered.reshape(spread), tensor.shape)


def spec(tensor: Tensor) -> jax.ShapeDtypeStruct:
    """Describes a value for tracing."""
    return jax.ShapeDtypeStruct(tensor.shape, tensor.dtype)
