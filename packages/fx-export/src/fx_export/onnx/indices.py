"""Places of windows in an array, written out for ONNX: one index for each axis that is looked up."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.shapes import counting
from fx_export.onnx.tensor import Shape, Tensor

INDEX = np.dtype("int64")
_FILL = jax.lax.GatherScatterMode.FILL_OR_DROP


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of an array.

    Attributes:
      sizes: of a window along each axis of the array.
      start_axes: the axes whose places are given, in the order of the last axis of the places.
      collapsed: axes of size 1 that a window does not show.
      batched: pairs of an axis of the array and one of the places that go together.
    """

    sizes: Shape
    start_axes: tuple[int, ...]
    collapsed: tuple[int, ...]
    batched: tuple[tuple[int, int], ...]

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """The axes of the array that go together with one of the places."""
        return tuple(axis for axis, _ in self.batched)


def with_first_places(
    build: Builder, windows: Windows, starts: Tensor, partly: Sequence[int] = ()
) -> tuple[Windows, Tensor]:
    """Gives the place zero to axes that windows do not show and that have none, and to the first axis if no axis has.

    Args:
      build: the builder.
      windows: of an array with axes.
      starts: places, see `within`.
      partly: more axes that get the place zero.
    """
    given = windows.start_axes
    hidden = [*partly, *(a for a in windows.collapsed if a not in given and a not in windows.batch_axes)]
    if not (hidden or windows.start_axes or windows.batched):
        hidden = [0]
    if not hidden:
        return windows, starts
    windows = dataclasses.replace(windows, start_axes=(*windows.start_axes, *hidden))
    zeros = build.broadcast(build.like(starts, 0), (*starts.shape[:-1], len(hidden)), ())
    if not starts.shape[-1]:
        return windows, zeros
    shape = (*starts.shape[:-1], starts.shape[-1] + len(hidden))
    return windows, build.op("Concat", [starts, zeros], shape, typed=[0, 1], axis=len(shape) - 1)


def as_places(build: Builder, numbers: Tensor) -> Tensor:
    """Casts integers to the dtype of places."""
    if numbers.dtype == np.uint64:
        # Larger ones would become negative, and be the first place in place of the last one.
        numbers = build.elementwise("Min", [numbers, build.constant(np.iinfo(INDEX).max, np.uint64)])
    return build.cast(numbers, INDEX)


def within(build: Builder, windows: Windows, shape: Shape, starts: Tensor, mode: Any) -> tuple[Tensor | None, Tensor]:
    """Brings places inside of the array.

    Args:
      build: the builder.
      windows: what is taken.
      shape: of the array.
      starts: the places, along the last axis one for each of ``windows.start_axes``.
      mode: one of `jax.lax.GatherScatterMode`, or None for its default. What is promised to be inside is moved there
        all the same, as XLA does.

    Returns:
      Which windows were inside before, None where that does not matter, and the places.
    """
    starts = as_places(build, starts)
    mode = jax.lax.GatherScatterMode.from_any(mode)
    if not windows.start_axes:
        return None, starts
    lasts = [build.size(shape[axis] - windows.sizes[axis]) for axis in windows.start_axes]
    if len(lasts) == 1:
        last = lasts[0]
    else:
        vector = build.shape(tuple(shape[axis] - windows.sizes[axis] for axis in windows.start_axes))
        last = build.broadcast(vector, starts.shape, (starts.ndim - 1,))
    zero = build.constant(0, INDEX)
    limited = build.elementwise("Min", [build.elementwise("Max", [starts, zero]), last])
    if mode != _FILL:
        return None, limited
    same = build.elementwise("Equal", [starts, limited], bool)
    if len(lasts) == 1:
        return build.squeeze(same, [starts.ndim - 1]), limited
    lowest = build.op("ReduceMin", [build.cast(same, np.int32), build.constant([-1], np.int64)],
                      starts.shape[:-1], np.int32, keepdims=0)  # fmt: skip
    return build.cast(lowest, bool), limited


def complete(build: Builder, windows: Windows, operand: Tensor, starts: Tensor) -> tuple[list[int], Tensor, list[int]]:
    """Writes out the places of all elements of windows.

    Args:
      build: the builder.
      windows: what is taken; axes without a place are whole.
      operand: the array.
      starts: places inside of it.

    Returns:
      The axes of the array that are looked up; their indices, as an array of the places without the last axis, then an
      axis for each that is spread, then one index for each axis that is looked up; and the axes that are spread: those
      of which a window has more than one element, but not all.
    """
    order = [*windows.batch_axes, *windows.start_axes]
    spread = [axis for axis in windows.start_axes if windows.sizes[axis] != 1]
    batch = starts.shape[:-1]
    full = (*batch, *(windows.sizes[axis] for axis in spread))
    columns = list[Tensor]()
    for axis, of_starts in windows.batched:
        columns.append(counting(build, (*full, 1), of_starts, INDEX))
        del axis
    for number, axis in enumerate(windows.start_axes):
        columns.append(_column(build, starts, number, axis, spread, batch, (*full, 1)))
    if len(columns) == 1:
        return order, columns[0], spread
    shape = (*full, len(columns))
    whole = [build.plain(column) for column in columns]
    return order, build.op("Concat", whole, shape, typed=range(len(whole)), axis=len(shape) - 1), spread


def _column(
    build: Builder, starts: Tensor, number: int, axis: int, spread: Sequence[int], batch: Shape, full: Shape
) -> Tensor:
    rank = starts.ndim
    low = [number if a == rank - 1 else 0 for a in range(rank)]
    high = [number + 1 if a == rank - 1 else size for a, size in enumerate(starts.shape)]
    one = build.slice(starts, low, high, [1] * rank)
    column = build.broadcast(build.squeeze(one, [rank - 1]), full, range(len(batch)))
    if axis in spread:
        place = len(batch) + spread.index(axis)
        column = build.elementwise("Add", [column, counting(build, full, place, INDEX)])
    return column
