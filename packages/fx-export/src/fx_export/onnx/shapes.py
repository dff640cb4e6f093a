"""Moving, cutting and joining, without arithmetic."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import primitive
from fx_export.onnx.tensor import Dim, Shape, Tensor, at_least_zero, constant_tensor, is_static, surely_positive


@primitive("broadcast_in_dim")
def broadcast_in_dim(build: Builder, eqn: Any, x: Tensor, *sizes: Tensor) -> Tensor:
    """Repetition along axes; the sizes that are not known come from the shape."""
    return build.broadcast(x, eqn.outvars[0].aval.shape, eqn.params["broadcast_dimensions"])


@primitive("reshape")
def reshape(build: Builder, eqn: Any, x: Tensor, *sizes: Tensor) -> Tensor:
    """Another shape for the same elements, read in another order of axes where one is given."""
    order = eqn.params["dimensions"]
    return build.reshape(x if order is None else build.transpose(x, order), eqn.outvars[0].aval.shape)


@primitive("squeeze")
def squeeze(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Without axes of size 1."""
    return build.squeeze(x, [d % x.ndim for d in eqn.params["dimensions"]])


@primitive("expand_dims")
def expand_dims(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """With more axes of size 1."""
    return build.reshape(x, eqn.outvars[0].aval.shape)


@primitive("transpose")
def transpose(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Axes in another order."""
    return build.transpose(x, eqn.params["permutation"])


@primitive("slice")
def cut(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """A part with fixed borders."""
    steps = eqn.params["strides"] or (1,) * x.ndim
    part = build.slice(x, eqn.params["start_indices"], eqn.params["limit_indices"], steps)
    return part.relabeled(eqn.outvars[0].aval.shape, part.axes)


@primitive("rev")
def reverse(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Elements in the opposite order along axes."""
    return reversed_along(build, x, eqn.params["dimensions"])


def reversed_along(build: Builder, x: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Returns a value with the elements in the opposite order along axes."""
    axes = [int(axis) for axis in dimensions if axis in x.held]
    if not axes:
        return x
    x = build.plain(x)
    count = len(axes)
    settings = [[-1] * count, [-(2**62)] * count, axes, [-1] * count]
    return build.op("Slice", [x, *(build.constant(s, np.int64) for s in settings)], x.shape)


@primitive("concatenate")
def concatenate(build: Builder, eqn: Any, *parts: Tensor) -> Tensor:
    """Values one after the other."""
    return joined(build, parts, eqn.params["dimension"], eqn.outvars[0].aval.shape)


def joined(build: Builder, parts: Sequence[Tensor], axis: int, shape: Shape) -> Tensor:
    """Joins values along an axis; empty ones are left out."""
    filled = [part for part in parts if part.shape[axis] != 0]
    if not filled:
        return parts[0]
    if len(filled) == 1:
        return filled[0]
    return build.op("Concat", filled, shape, typed=range(len(filled)), axis=axis)


@primitive("stack")
def stack(build: Builder, eqn: Any, *parts: Tensor) -> Tensor:
    """Values along a new axis."""
    shape = eqn.outvars[0].aval.shape
    axis = eqn.params["axis"] % len(shape)
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    return joined(build, [build.reshape(part, single) for part in parts], axis, shape)


@primitive("unstack")
def unstack(build: Builder, eqn: Any, x: Tensor) -> list[Tensor]:
    """Values along an axis, each by itself."""
    axis = eqn.params["axis"] % x.ndim

    def part(number: int) -> Tensor:
        starts = [number if a == axis else 0 for a in range(x.ndim)]
        limits = [number + 1 if a == axis else size for a, size in enumerate(x.shape)]
        return build.squeeze(build.slice(x, starts, limits, [1] * x.ndim), [axis])

    return [part(number) for number in range(len(eqn.outvars))]


@primitive("split")
def split(build: Builder, eqn: Any, x: Tensor) -> list[Tensor]:
    """Parts along an axis."""
    axis, start, parts = eqn.params["axis"], 0, list[Tensor]()
    for size in eqn.params["sizes"]:
        starts = [start if a == axis else 0 for a in range(x.ndim)]
        limits = [start + size if a == axis else x.shape[a] for a in range(x.ndim)]
        parts.append(build.slice(x, starts, limits, [1] * x.ndim))
        start += size
    return parts


@primitive("pad")
def pad(build: Builder, eqn: Any, x: Tensor, value: Tensor) -> Tensor:
    """Elements around and between; negative counts cut away."""
    config = eqn.params["padding_config"]
    for axis, (_, _, between) in enumerate(config):
        if between:
            x = spread_out(build, x, axis, between + 1, value)
    return padded(build, x, [c[0] for c in config], [c[1] for c in config], value)


def padded(build: Builder, x: Tensor, low: Sequence[Dim], high: Sequence[Dim], value: Tensor) -> Tensor:
    """Adds elements before and after along each axis; negative counts cut away."""
    starts = [at_least_zero(-count) for count in low]
    # A negative limit would count from the end.
    limits = [at_least_zero(size - at_least_zero(-count)) for size, count in zip(x.shape, high)]
    x = build.slice(x, starts, limits, [1] * x.ndim)
    before, after = ([at_least_zero(count) for count in counts] for counts in (low, high))
    if is_static([*before, *after]) and not any([*before, *after]):
        return x
    shape = tuple(size + a + b for size, a, b in zip(x.shape, before, after))
    x, value = build.plain(x), build.plain(value)
    kernel = x.stored if x.stored.kind != "b" else np.dtype(bool)
    value = build.stored_as(value, kernel)
    return build.op("Pad", [x, build.shape((*before, *after)), value], shape, typed=[0, 2])


def with_windows(
    build: Builder, x: Tensor, lengths: Mapping[int, Dim], counts: Mapping[int, Dim], value: Tensor
) -> Tensor:
    """Adds elements at the end of axes that may be too short for a window: runtimes refuse what has none.

    Args:
      build: the builder.
      x: what the windows slide over.
      lengths: by axis, of the input that a window reaches over, without padding.
      counts: by axis, how many windows there are.
      value: of what is added.
    """
    short = {axis: at_least_zero(lengths[axis] - x.shape[axis]) for axis, n in counts.items() if not surely_positive(n)}
    return padded(build, x, [0] * x.ndim, [short.get(axis, 0) for axis in range(x.ndim)], value)


def spread_out(build: Builder, x: Tensor, axis: int, step: int, value: Tensor) -> Tensor:
    """Puts ``step - 1`` elements between each two along an axis."""
    size = x.shape[axis]
    wide = build.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    low = [0] * wide.ndim
    high = [step - 1 if a == axis + 1 else 0 for a in range(wide.ndim)]
    wide = padded(build, wide, low, high, value)
    flat = build.reshape(wide, (*x.shape[:axis], size * step, *x.shape[axis + 1 :]))
    limits = [size * step - (step - 1) if a == axis else s for a, s in enumerate(flat.shape)]
    return build.slice(flat, [0] * flat.ndim, limits, [1] * flat.ndim)


@primitive("iota")
def iota(build: Builder, eqn: Any, *sizes: Tensor) -> Tensor:
    """Numbers that count up along an axis."""
    shape, axis = eqn.outvars[0].aval.shape, eqn.params["dimension"]
    return counting(build, shape, axis, np.dtype(eqn.params["dtype"]))


def counting(build: Builder, shape: Shape, axis: int, dtype: np.dtype) -> Tensor:
    """Returns numbers that count up along an axis of a shape."""
    size = shape[axis]
    if isinstance(size, int | np.integer):
        numbers = constant_tensor(np.arange(size).astype(dtype))
    else:
        ends = [build.constant(0, np.int64), build.size(size), build.constant(1, np.int64)]
        numbers = build.cast(build.op("Range", ends, (size,), np.int64, typed=[0, 1, 2]), dtype)
    return build.broadcast(numbers, shape, (axis,))


@primitive("dim_as_value")
def dim_as_value(build: Builder, eqn: Any) -> Tensor:
    """A size as a number."""
    return build.cast(build.size(eqn.params["dim"]), eqn.outvars[0].aval.dtype)


@primitive("tile")
def tile(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Whole repetitions along axes."""
    repeats = eqn.params["reps"]
    return build.op("Tile", [x, build.shape(tuple(repeats))], eqn.outvars[0].aval.shape)


@primitive("copy", "copy_p", "stop_gradient", "optimization_barrier", "sharding_constraint", "reshard", "pvary",
           "mesh_cast", "layout_constraint", "name", "pcast")  # fmt: skip
def as_it_is(build: Builder, eqn: Any, *inputs: Tensor) -> Sequence[Tensor]:
    """Primitives that change nothing about the numbers."""
    return inputs
