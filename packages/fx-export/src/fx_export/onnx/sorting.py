"""Order: sorting and the largest elements."""

from typing import Any

import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import RefusedError, primitive
from fx_export.onnx.tensor import Tensor, stored_tensor


@primitive("top_k")
def top_k(build: Builder, eqn: Any, x: Tensor) -> list[Tensor]:
    """The largest elements along the last axis, in order, and where they were."""
    axis = eqn.params.get("axis", x.ndim - 1) % x.ndim
    values, places = _first_in_total_order(build, x, axis, eqn.outvars[0].aval.shape[axis])
    return [values, build.cast(places, eqn.outvars[1].aval.dtype)]


@primitive("approx_top_k")
def approximate_top_k(build: Builder, eqn: Any, x: Tensor) -> list[Tensor]:
    """The largest or smallest elements along an axis, all of them found."""
    p = eqn.params
    if not p["aggregate_to_topk"]:
        raise RefusedError("candidates before the last selection")
    axis = p["reduction_dimension"] % x.ndim
    count = eqn.outvars[0].aval.shape[axis]
    # What has no kernel of its own on a CPU is sorted by comparisons, which take both zeros for equal.
    if p["is_max_k"] and x.dtype == np.float32:
        values, places = _first_in_total_order(build, x, axis, count)
    else:
        values, places = largest(build, x, axis, count, smallest=not p["is_max_k"])
    return [values, build.cast(places, eqn.outvars[1].aval.dtype)]


def _first_in_total_order(build: Builder, x: Tensor, axis: int, count: Any) -> list[Tensor]:
    """Returns the largest elements and their places, where ``0`` is more than ``-0``, and NaN more than infinity or,
    with a sign, less than its negative.

    The sign of a NaN is only seen by an operator of opset 26; before, it is taken for a positive one.
    """
    if x.dtype.kind in "biu":
        return largest(build, x, axis, count)
    wide = build.cast(x, np.float64 if x.dtype == np.float64 else np.float32)
    _, places = largest(build, _total_order(build, wide), axis, count)
    return [_taken(build, x, places, axis), places]


def _total_order(build: Builder, x: Tensor) -> Tensor:
    """Returns numbers whose order is the total order of floats."""
    if build.opset >= 26:
        integer = np.dtype(f"int{x.dtype.itemsize * 8}")
        lying = build.stored_as(build.plain(x), x.dtype)
        (name,) = build.emit("BitCast", [build.name(lying)], [(integer, x.shape)], {"to": integer})
        bits = stored_tensor(name, x.shape, integer)
        turned = build.elementwise("BitwiseXor", [bits, build.like(bits, np.iinfo(integer).max)])
        return build.elementwise("Where", [build.elementwise("Less", [bits, build.like(bits, 0)], bool), turned, bits])
    # Of all numbers that are no zero for a processor only `-0` has this reciprocal.
    below = build.elementwise("Equal", [build.elementwise("Reciprocal", [x]), build.like(x, -np.inf)], bool)
    return build.elementwise("Where", [below, build.like(x, -np.finfo(x.dtype).tiny), x])


def largest(build: Builder, x: Tensor, axis: int, count: Any, *, smallest: bool = False) -> list[Tensor]:
    """Returns the largest elements along an axis, of equal ones the first, and their places."""
    kernel = build.kernel("TopK", x)
    lying = build.stored_as(build.plain(x), kernel)
    shape = tuple(count if a == axis else size for a, size in enumerate(x.shape))
    size = build.plain(build.shape((count,)))
    attributes = {"axis": axis, "largest": int(not smallest), "sorted": 1}
    outputs = [(kernel, shape), (np.int64, shape)]
    names = build.emit("TopK", [build.name(lying), build.name(size)], outputs, attributes)
    values = build.rested(stored_tensor(names[0], shape, x.dtype, kernel))
    return [values, stored_tensor(names[1], shape, np.int64)]


@primitive("sort")
def sort(build: Builder, eqn: Any, *inputs: Tensor) -> list[Tensor]:
    """Ascending order by the first keys; the others follow. Equal elements keep their order, NaN comes last."""
    axis, keys = eqn.params["dimension"], eqn.params["num_keys"]
    results = list(inputs)
    # By the least important key first: each pass keeps the order of what is equal.
    for number in range(keys - 1, -1, -1):
        key = results[number]
        if key.dtype == bool:
            key = build.cast(key, np.int32)
        if key.dtype.kind not in "iu":
            unknown = build.elementwise("IsNaN", [key], bool)
            _, first = largest(build, _known_first(build, key, unknown), axis, key.shape[axis], smallest=True)
            results = [_taken(build, value, first, axis) for value in results]
            late = build.cast(_taken(build, unknown, first, axis), np.int32)
            _, last = largest(build, late, axis, key.shape[axis], smallest=True)
            results = [_taken(build, value, last, axis) for value in results]
        else:
            _, order = largest(build, key, axis, key.shape[axis], smallest=True)
            results = [_taken(build, value, order, axis) for value in results]
    return results


def _known_first(build: Builder, key: Tensor, unknown: Tensor) -> Tensor:
    return build.elementwise("Where", [unknown, build.like(key, np.inf), key])


def _taken(build: Builder, x: Tensor, places: Tensor, axis: int) -> Tensor:
    return build.op("GatherElements", [x, places], places.shape, axis=axis)
