"""Where axes lie: bringing stored values into the order that an operator needs, with as few nodes as possible."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fx_export.onnx.tensor import Axes, Shape, Tensor, is_static, surely_positive, whole

if TYPE_CHECKING:
    from fx_export.onnx.builder import Builder


def arranged(build: "Builder", tensor: Tensor, order: Axes, *, expand: bool = True) -> Tensor:
    """Returns a value with its axes stored in an order; see `Builder.arranged`."""
    held = set(tensor.held)
    target = tuple(axis if axis is not None and axis in held else None for axis in order)
    moved = _with_axes(build, tensor, target)
    missing = [axis for axis in order if axis is not None and axis not in held]
    if not expand or all(tensor.shape[axis] == 1 for axis in missing):
        # Axes of size 1 are as good as stored.
        return moved.relabeled(moved.shape, order) if expand else moved
    return _expanded(build, moved, order)


def aligned(build: "Builder", tensors: Sequence[Tensor]) -> list[Tensor]:
    """Brings values of one shape, and scalars, into orders that broadcast against each other."""
    full = max((t.ndim for t in tensors), default=0)
    sizes = [[t.shape[axis] for t in tensors if t.ndim == full] for axis in range(full)]
    shape = tuple(next((size for size in given if size != 1), 1) for given in sizes)
    lifted = [_lifted(t, shape) for t in tensors]
    base = max(lifted, key=lambda t: (len(t.held), t.constant is None))
    result, axes = list[Tensor](), base.axes
    for tensor in lifted:
        merged_axes = _merge(axes, tensor.axes)
        if merged_axes is None and set(tensor.held) <= set(axes):
            tensor = arranged(build, tensor, _trimmed(axes, tensor), expand=False)
            merged_axes = axes
        if merged_axes is None:
            return [arranged(build, t, tuple(range(full)), expand=False) if t.held else t for t in lifted]
        axes = merged_axes
        result.append(tensor)
    return result


def _lifted(tensor: Tensor, shape: Shape) -> Tensor:
    """Give a scalar, or a value of which some sizes are 1, as one of the whole shape."""
    if tensor.ndim != len(shape):
        return tensor.relabeled(shape, [None] * len(tensor.axes))
    axes = [a if a is not None and tensor.shape[a] == shape[a] else None for a in tensor.axes]
    return tensor.relabeled(shape, axes)


def merged(tensors: Sequence[Tensor]) -> tuple[Shape, Axes]:
    """Returns the shape of aligned values, and the axes that their broadcast result holds."""
    axes: Axes = ()
    for tensor in tensors:
        both = _merge(axes, tensor.axes)
        assert both is not None
        axes = both
    full = max(t.ndim for t in tensors)
    return next(t.shape for t in tensors if t.ndim == full), axes


def reshaped(build: "Builder", tensor: Tensor, shape: Shape) -> Tensor:
    """Returns a value in another shape; see `Builder.reshape`."""
    if tensor.shape == shape:
        return tensor
    if [s for s in tensor.shape if s != 1] == [s for s in shape if s != 1]:
        return _without_ones(tensor, shape)
    if tensor.constant is not None and is_static(shape):
        array = whole(tensor)
        if array.size <= 1 << 20:
            return _constant(array.reshape(shape), tensor)
    if not tensor.held and is_static(shape):
        return tensor.relabeled(shape, tensor.axes)
    whole_tensor = arranged(build, tensor, tuple(range(tensor.ndim)))
    # What was repeated may lie in another dtype than before.
    result = whole_tensor.relabeled(shape, range(len(shape)))
    return stored_reshape(build, whole_tensor, result)


def stored_reshape(build: "Builder", tensor: Tensor, result: Tensor) -> Tensor:
    """Reshapes a stored value to the stored shape of ``result``."""
    old, new = tensor.stored_shape, result.stored_shape
    if tensor.constant is not None and is_static(new):
        return dataclasses.replace(result, constant=tensor.constant.reshape(new))
    sizes, free = list[int](), 0
    copied = all(size != 0 for size in (*old, *new))
    for axis, size in enumerate(new):
        if isinstance(size, int | np.integer):
            sizes.append(int(size))
        elif copied and axis < len(old) and old[axis] == size:
            sizes.append(0)
        else:
            sizes.append(-1)
            free += 1
    if free > 1 or (free and any(one == 0 and not surely_positive(size) for one, size in zip(sizes, new))):
        # Beside a size of zero, the size that is left out could be any; and a computed zero is no copy.
        copied = copied and all(map(surely_positive, new))
    attributes: dict[str, Any] = {} if copied else {"allowzero": 1}
    vector = build.constant(sizes, np.int64) if free <= 1 and (copied or not free) else build.shape(new)
    inputs = [build.name(tensor), build.name(build.plain(vector))]
    (name,) = build.emit("Reshape", inputs, [(tensor.stored, new)], attributes)
    return dataclasses.replace(result, name=name, constant=None)


def _with_axes(build: "Builder", tensor: Tensor, target: Axes) -> Tensor:
    """Reorder, and put axes of size 1 where the target has None."""
    if tensor.axes == target:
        return tensor
    order = [axis for axis in target if axis is not None]
    if tensor.constant is not None:
        sizes = [tensor.shape[a] for a in tensor.held]
        lying = tensor.constant.reshape(sizes).transpose([tensor.held.index(a) for a in order])
        new = [1 if a is None else tensor.shape[a] for a in target]
        return dataclasses.replace(tensor, axes=target, constant=np.asarray(lying.reshape(new), order="C"))
    if list(tensor.held) != order:
        tensor = _transposed(build, tensor, target, order)
    if tensor.axes == target:
        return tensor
    result = tensor.relabeled(tensor.shape, target)
    if sum(not isinstance(size, int | np.integer) for size in result.stored_shape) <= 1:
        return stored_reshape(build, tensor, result)
    return _squeezed(build, tensor, target)


def _transposed(build: "Builder", tensor: Tensor, target: Axes, order: list[int]) -> Tensor:
    spare = [place for place, axis in enumerate(tensor.axes) if axis is None]
    if len(tensor.axes) == len(target):
        places = [tensor.axes.index(a) if a is not None else spare.pop(0) for a in target]
    else:
        places = [*spare, *(tensor.axes.index(a) for a in order)]
    result = tensor.relabeled(tensor.shape, [tensor.axes[place] for place in places])
    (name,) = build.emit("Transpose", [build.name(tensor)], [(tensor.stored, result.stored_shape)], {"perm": places})
    return dataclasses.replace(result, name=name)


def _squeezed(build: "Builder", tensor: Tensor, target: Axes) -> Tensor:
    gone = [place for place, axis in enumerate(tensor.axes) if axis is None]
    if gone:
        result = tensor.relabeled(tensor.shape, tensor.held)
        inputs = [build.name(tensor), build.name(build.constant(gone, np.int64))]
        (name,) = build.emit("Squeeze", inputs, [(tensor.stored, result.stored_shape)])
        tensor = dataclasses.replace(result, name=name)
    new = [place for place, axis in enumerate(target) if axis is None]
    if not new:
        return tensor
    result = tensor.relabeled(tensor.shape, target)
    inputs = [build.name(tensor), build.name(build.constant(new, np.int64))]
    (name,) = build.emit("Unsqueeze", inputs, [(tensor.stored, result.stored_shape)])
    return dataclasses.replace(result, name=name)


def _expanded(build: "Builder", tensor: Tensor, order: Axes) -> Tensor:
    result = tensor.relabeled(tensor.shape, order)
    shape = result.stored_shape
    if tensor.constant is not None and is_static(shape) and math.prod(shape) <= 1 << 16:
        return dataclasses.replace(result, constant=np.broadcast_to(tensor.constant, shape))
    # Expand takes 1 for "as it is": sizes that are there already need not be asked for.
    wanted = [1 if held == size else size for held, size in zip(tensor.stored_shape, shape)]
    carrier = build.stored_as(tensor, np.dtype("float32")) if tensor.stored.itemsize == 2 else tensor
    inputs = [build.name(carrier), build.name(build.plain(build.shape(tuple(wanted))))]
    (name,) = build.emit("Expand", inputs, [(carrier.stored, shape)])
    spread = dataclasses.replace(result, name=name, constant=None, stored=carrier.stored)
    return build.rested(spread) if tensor.stored != np.dtype("float16") else build.stored_as(spread, tensor.stored)


def _merge(one: Axes, other: Axes) -> Axes | None:
    """Put two orders over each other from the right, as broadcasting does; None if they contradict."""
    length = max(len(one), len(other))
    one, other = (None,) * (length - len(one)) + one, (None,) * (length - len(other)) + other
    both = list[int | None]()
    for a, b in zip(one, other):
        if a is not None and b is not None and a != b:
            return None
        both.append(b if a is None else a)
    held = [axis for axis in both if axis is not None]
    return tuple(both) if len(held) == len(set(held)) else None


def _trimmed(axes: Axes, tensor: Tensor) -> Axes:
    """The order of ``axes`` with only what the value holds, without leading ones."""
    held = [axis if axis in tensor.held else None for axis in axes]
    while held and held[0] is None:
        held.pop(0)
    return tuple(held)


def _without_ones(tensor: Tensor, shape: Shape) -> Tensor:
    old = [axis for axis, size in enumerate(tensor.shape) if size != 1]
    new = [axis for axis, size in enumerate(shape) if size != 1]
    place = dict(zip(old, new))
    return tensor.relabeled(shape, [None if axis is None else place.get(axis) for axis in tensor.axes])


def _constant(array: np.ndarray, tensor: Tensor) -> Tensor:
    return dataclasses.replace(tensor, shape=array.shape, axes=tuple(range(array.ndim)), constant=array, name=None)
