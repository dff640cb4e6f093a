"""Gathering and cutting at places that are computed."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fx_export.onnx import indices as places
from fx_export.onnx.builder import Builder
from fx_export.onnx.elementwise import where
from fx_export.onnx.indices import INDEX, Windows, as_places
from fx_export.onnx.registry import primitive
from fx_export.onnx.tensor import Tensor


@primitive("gather")
def gather(build: Builder, eqn: Any, operand: Tensor, starts: Tensor) -> Tensor:
    """Windows of an array, taken at places that are given."""
    numbers, sizes = eqn.params["dimension_numbers"], tuple(eqn.params["slice_sizes"])
    shape, collapsed = eqn.outvars[0].aval.shape, tuple(numbers.collapsed_slice_dims)
    if not operand.ndim:
        operand, sizes, collapsed = build.reshape(operand, (1,)), (1,), (0,)
    windows = Windows(
        sizes=sizes,
        start_axes=tuple(numbers.start_index_map),
        collapsed=collapsed,
        batched=tuple(zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims)),
    )
    windows, starts = places.with_first_places(build, windows, starts)
    inside, starts = places.within(build, windows, operand.shape, starts, eqn.params["mode"])
    result = _taken(build, windows, operand, starts, tuple(numbers.offset_dims), shape)
    if inside is None:
        return result
    fill = build.like(operand, _fill_value(eqn.params["fill_value"], operand.dtype))
    batch = [axis for axis in range(len(shape)) if axis not in numbers.offset_dims]
    return where(build, build.broadcast(inside, shape, batch), result, fill)


def _fill_value(given: Any, dtype: np.dtype) -> Any:
    if given is not None:
        return given
    if dtype.kind == "b":
        return True
    if dtype.kind == "u":
        return np.iinfo(dtype).max
    return np.iinfo(dtype).min if dtype.kind == "i" else np.nan


def _taken(
    build: Builder, windows: Windows, operand: Tensor, starts: Tensor, offsets: Sequence[int], shape: Sequence[Any]
) -> Tensor:
    rank = operand.ndim
    whole = [axis for axis in range(rank) if windows.sizes[axis] == operand.shape[axis]]
    batch_axes = [axis for axis in range(len(shape)) if axis not in offsets]
    kept = [axis for axis in range(rank) if axis not in windows.collapsed and axis not in windows.batch_axes]
    if (
        len(windows.start_axes) == 1
        and not windows.batched
        and set(whole) | set(windows.start_axes) == set(range(rank))
    ):
        (axis,) = windows.start_axes
        if windows.sizes[axis] == 1:
            return _along_axis(build, windows, operand, starts, axis, kept, batch_axes, offsets, shape)
    operand = _first_elements(build, windows, operand)
    order, indices, spread = places.complete(build, windows, operand, starts)
    rest = [axis for axis in range(rank) if axis not in order]
    moved = build.transpose(operand, [*order, *rest])
    lying = build.plain(moved)
    found_shape = (*indices.shape[:-1], *(operand.shape[axis] for axis in rest))
    found = build.op("GatherND", [lying, indices], found_shape)
    # What came out: places, then what is spread over windows, then whole axes; now to where the output has them.
    position = {axis: len(batch_axes) + n for n, axis in enumerate(spread)}
    position.update({axis: len(batch_axes) + len(spread) + n for n, axis in enumerate(rest)})
    targets = dict(zip(batch_axes, range(len(batch_axes))))
    wanted = dict(zip(offsets, kept))
    for output, axis in wanted.items():
        if axis not in position:
            found = build.reshape(found, (*found.shape, 1))
            position[axis] = found.ndim - 1
        targets[output] = position[axis]
    return build.transpose(found, [targets[axis] for axis in range(len(shape))])


def _along_axis(
    build: Builder,
    windows: Windows,
    operand: Tensor,
    starts: Tensor,
    axis: int,
    kept: Sequence[int],
    batch_axes: Sequence[int],
    offsets: Sequence[int],
    shape: Sequence[Any],
) -> Tensor:
    """Rows by number: what embeddings do."""
    numbers = build.squeeze(starts, [starts.ndim - 1])
    operand = build.plain(operand)
    found_shape = (*operand.shape[:axis], *numbers.shape, *operand.shape[axis + 1 :])
    found = build.op("Gather", [operand, build.cast(numbers, INDEX)], found_shape, axis=axis)
    count = numbers.ndim
    position = {a: a if a < axis else a + count - 1 for a in range(operand.ndim) if a != axis}
    targets = {output: axis + n for n, output in enumerate(batch_axes)}
    for output, a in zip(offsets, kept):
        if a == axis:
            found = build.reshape(found, (*found.shape, 1))
            position[a] = found.ndim - 1
        targets[output] = position[a]
    return build.transpose(found, [targets[a] for a in range(len(shape))])


def _first_elements(build: Builder, windows: Windows, operand: Tensor) -> Tensor:
    """Axes of which only the first elements are taken, whatever the places, are cut to them."""
    limits = [
        windows.sizes[axis] if axis not in windows.start_axes and axis not in windows.batch_axes else size
        for axis, size in enumerate(operand.shape)
    ]
    return build.slice(operand, [0] * operand.ndim, limits, [1] * operand.ndim)


def limited(build: Builder, start: Tensor, size: Any, total: Any) -> Tensor:
    """Moves a start such that what begins there fits, as JAX does; negative ones count from zero."""
    start = as_places(build, start)
    last = build.size(total - size)
    known, end = build.known(start), build.known(last)
    if known is not None and end is not None:
        return build.constant(np.clip(known, 0, end), INDEX)
    low = build.elementwise("Max", [start, build.constant(0, INDEX)])
    return build.elementwise("Min", [low, last])


@primitive("dynamic_slice")
def dynamic_slice(build: Builder, eqn: Any, operand: Tensor, *starts: Tensor) -> Tensor:
    """A part of fixed size at a place that is computed."""
    sizes = eqn.outvars[0].aval.shape
    cut = [axis for axis in range(operand.ndim) if sizes[axis] != operand.shape[axis]]
    for axis in range(operand.ndim):
        if axis in cut and axis not in operand.held:
            operand = build.plain(operand)
    if not cut:
        return operand
    operand = build.plain(operand)
    firsts = [limited(build, starts[axis], sizes[axis], operand.shape[axis]) for axis in cut]
    ends = [build.elementwise("Add", [first, build.size(sizes[axis])]) for first, axis in zip(firsts, cut)]
    settings = [_vector(build, firsts), _vector(build, ends), build.constant(cut, np.int64)]
    return build.op("Slice", [operand, *settings], tuple(sizes))


@primitive("dynamic_update_slice")
def dynamic_update_slice(build: Builder, eqn: Any, operand: Tensor, update: Tensor, *starts: Tensor) -> Tensor:
    """An array with a part at a computed place replaced, as caches do."""
    written = [axis for axis in range(operand.ndim) if update.shape[axis] != operand.shape[axis]]
    if any(update.shape[axis] == 0 for axis in range(operand.ndim)):
        return operand
    firsts = {a: limited(build, starts[a], update.shape[a], operand.shape[a]) for a in written}
    return _written(build, operand, update, written, firsts)


def _written(build: Builder, operand: Tensor, update: Tensor, axes: Sequence[int], firsts: dict[int, Tensor]) -> Tensor:
    if not axes:
        return update
    axis, *others = axes
    operand = build.plain(operand)
    size, rank = update.shape[axis], operand.ndim
    first = firsts[axis]
    last = build.elementwise("Add", [first, build.size(size)])
    where_ = build.constant([axis], np.int64)

    def part(start: Tensor, end: Tensor, length: Any) -> Tensor:
        shape = tuple(length if a == axis else s for a, s in enumerate(operand.shape))
        return build.op("Slice", [operand, _vector(build, [start]), _vector(build, [end]), where_], shape)

    # How long the parts around are is not known; nothing but the join looks at them.
    unknown = _unknown_size()
    total = build.size(operand.shape[axis])
    inner = _written(build, part(first, last, size), update, others, firsts) if others else update
    pieces = [part(build.constant(0, np.int64), first, unknown), inner, part(last, total, unknown)]
    assert rank == inner.ndim
    return build.op("Concat", pieces, operand.shape, typed=[0, 1, 2], axis=axis)


def _unknown_size() -> Any:
    (free,) = jax.export.symbolic_shape("rest_")
    return free


def _vector(build: Builder, scalars: Sequence[Tensor]) -> Tensor:
    known = [build.known(scalar) for scalar in scalars]
    if all(value is not None for value in known):
        return build.constant([int(value) for value in known if value is not None], np.int64)
    parts = [build.broadcast(scalar, (1,), ()) for scalar in scalars]
    return parts[0] if len(parts) == 1 else build.op("Concat", parts, (len(parts),), typed=range(len(parts)), axis=0)
