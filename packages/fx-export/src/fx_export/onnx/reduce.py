"""Reductions over axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import primitive
from fx_export.onnx.tensor import Tensor

_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_or": "ReduceMax",
    "reduce_and": "ReduceMin",
}


@primitive(*_REDUCTIONS)
def reduce(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Sums, products, extremes."""
    return reduced(build, _REDUCTIONS[eqn.primitive.name], x, eqn.params["axes"])


def reduced(build: Builder, op: str, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Reduces over axes; they stay in the file with size 1, so that results broadcast without a node."""
    gone = [int(axis) for axis in axes]
    if not gone:
        return x
    logical = x.dtype == bool
    if logical and (op in ("ReduceSum", "ReduceProd") or build.opset < 20):
        small = build.cast(x, np.int32)
        op = {"ReduceSum": "ReduceMax", "ReduceProd": "ReduceMin"}.get(op, op)
        return build.cast(reduced(build, op, small, axes), bool)
    if any(axis not in x.held and x.shape[axis] != 1 for axis in gone):
        x = build.plain(x)
    places = [x.axes.index(axis) for axis in gone if axis in x.held]
    left = [None if axis in gone else axis for axis in x.axes]
    kept = [axis for axis in range(x.ndim) if axis not in gone]
    number = {axis: new for new, axis in enumerate(kept)}
    shape = tuple(x.shape[axis] for axis in kept)
    result = x.relabeled(shape, [None if axis is None else number[axis] for axis in left])
    if not places:
        return result
    kernel = build.kernel(op, x)
    lying = build.stored_as(x, kernel)
    inputs = [build.name(lying), build.name(build.constant(places, np.int64))]
    (name,) = build.emit(op, inputs, [(kernel, result.stored_shape)], {"keepdims": 1})
    return build.rested(Tensor(shape, x.dtype, result.axes, kernel, name))


@primitive("reduce_xor")
def reduce_xor(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Exclusive or of bools: whether an odd number of them holds; of integers bit by bit."""
    axes = eqn.params["axes"]
    if x.dtype == bool:
        total = reduced(build, "ReduceSum", build.cast(x, np.int32), axes)
        return build.cast(build.elementwise("Mod", [total, build.like(total, 2)]), bool)
    width = x.dtype.itemsize * 8
    unsigned = build.cast(x, f"uint{width}")
    result = None
    for bit in range(width):
        shifted = build.elementwise("BitShift", [unsigned, build.like(unsigned, bit)], direction="RIGHT")
        one = build.elementwise("BitwiseAnd", [shifted, build.like(unsigned, 1)])
        total = reduced(build, "ReduceSum", build.cast(one, np.int64), axes)
        odd = build.cast(build.elementwise("Mod", [total, build.like(total, 2)]), unsigned.dtype)
        part = build.elementwise("BitShift", [odd, build.like(odd, bit)], direction="LEFT")
        result = part if result is None else build.elementwise("BitwiseOr", [result, part])
    assert result is not None
    return build.cast(result, x.dtype)


@primitive("argmax", "argmin")
def argument(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The first place of the largest or smallest element; a NaN counts as both."""
    op = "ArgMax" if eqn.primitive.name == "argmax" else "ArgMin"
    (axis,) = eqn.params["axes"]
    shape = eqn.outvars[0].aval.shape
    if x.dtype == bool:
        x = build.cast(x, np.int32)
    place = build.op(op, [x], shape, np.int64, axis=int(axis), keepdims=0)
    if x.dtype.kind not in "biu":
        unknown = build.cast(build.elementwise("IsNaN", [x], bool), np.int32)
        first = build.op("ArgMax", [unknown], shape, np.int64, axis=int(axis), keepdims=0)
        some = build.cast(reduced(build, "ReduceMax", unknown, [axis]), bool)
        place = build.elementwise("Where", [some, first, place])
    return build.cast(place, eqn.params["index_dtype"])
