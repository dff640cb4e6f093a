"""Reductions over axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.compat import jax as compat

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import primitive
from fx_export.onnx.tensor import Tensor, is_static, surely_positive

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
    if x.dtype != bool and eqn.primitive.name in ("reduce_or", "reduce_and"):
        combine = jnp.bitwise_or if eqn.primitive.name == "reduce_or" else jnp.bitwise_and
        start = build.constant(np.array(0 if combine is jnp.bitwise_or else -1).astype(x.dtype))
        return _folded(build, lambda a, b: (combine(a[0], b[0]),), [x], [start], eqn.params["axes"])[0]
    if eqn.primitive.name == "reduce_prod" and x.dtype.kind in "iu":
        # ONNX Runtime's products of integers saturate, where those of JAX wrap around.
        return _folded(build, lambda a, b: (a[0] * b[0],), [x], [build.like(x, 1)], eqn.params["axes"])[0]
    if eqn.primitive.name == "reduce_sum" and x.dtype.kind in "iu":
        return _exact_sum(build, x, eqn.params["axes"])
    result = reduced(build, op := _REDUCTIONS[eqn.primitive.name], x, eqn.params["axes"])
    return result if op not in ("ReduceMax", "ReduceMin") else _or_unknown(build, x, eqn.params["axes"], result)


def _exact_sum(build: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """ONNX Runtime's sums of integers saturate or are those of float64, which has 53 bits; its products wrap around."""

    def total(values: jax.Array) -> jax.Array:
        ones = jnp.ones([values.shape[axis] for axis in axes], values.dtype)
        return jnp.tensordot(values, ones, (list(axes), list(range(len(axes)))))

    return build.call(total, x)[0]


def _or_unknown(build: Builder, x: Tensor, axes: Sequence[int], result: Tensor) -> Tensor:
    """NaN where one of the elements is: runtimes leave it out of extremes. `fx_export.onnx.fusion` knows the form."""
    if x.dtype.kind in "biu":
        return result
    unknown = reduced(build, "ReduceMax", build.elementwise("IsNaN", [x], bool), axes)
    return build.elementwise("Where", [unknown, build.like(result, np.nan), result])


def reduced(build: Builder, op: str, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Reduces over axes; they stay in the file with size 1, so that results broadcast without a node."""
    gone = [int(axis) for axis in axes]
    if not gone:
        return x
    logical = x.dtype == bool
    if any(is_static((x.shape[axis],)) and x.shape[axis] == 0 for axis in gone):
        # Runtimes take no extremes of nothing, and means of nothing for zero.
        left = tuple(size for axis, size in enumerate(x.shape) if axis not in gone)
        return build.broadcast(build.constant(_of_nothing(op, x.dtype), x.dtype), left, ())
    empty = not all(surely_positive(x.shape[axis]) for axis in gone)
    if logical and (empty or op in ("ReduceSum", "ReduceProd") or build.opset < 20):
        small = build.cast(x, np.int32)
        op = {"ReduceSum": "ReduceMax", "ReduceProd": "ReduceMin"}.get(op, op)
        result = reduced(build, op, small, axes)
        # The largest of nothing is a negative number, which would count as true.
        some = build.elementwise("Greater", [result, build.like(result, 0)], bool) if empty else result
        return build.cast(some, bool)
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


def _of_nothing(op: str, dtype: np.dtype) -> Any:
    if op in ("ReduceSum", "ReduceProd"):
        return int(op == "ReduceProd")
    low = op == "ReduceMax"
    if dtype.kind == "b":
        return not low
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if low else np.iinfo(dtype).max
    return -np.inf if low else np.inf


@primitive("reduce")
def reduce_by(build: Builder, eqn: Any, *inputs: Tensor) -> list[Tensor]:
    """Reductions by a function, which is applied to one element after the other."""
    jaxpr, count = eqn.params["jaxpr"], len(inputs) // 2

    def combine(totals: Sequence[jax.Array], elements: Sequence[jax.Array]) -> Sequence[jax.Array]:
        return compat.evaluate_jaxpr(jaxpr, *totals, *elements)

    return _folded(build, combine, inputs[:count], inputs[count:], eqn.params["dimensions"])


def _folded(
    build: Builder,
    combine: Callable[[Sequence[jax.Array], Sequence[jax.Array]], Sequence[jax.Array]],
    values: Sequence[Tensor],
    starts: Sequence[Tensor],
    axes: Sequence[int],
) -> list[Tensor]:
    def fold(values: Sequence[jax.Array], starts: Sequence[jax.Array]) -> Sequence[jax.Array]:
        rows = list[jax.Array]()
        for value in values:
            kept = [axis for axis in range(value.ndim) if axis not in axes]
            moved = value.transpose([*axes, *kept])
            rows.append(moved.reshape(-1, *(value.shape[axis] for axis in kept)))
        totals = [jnp.broadcast_to(start, row.shape[1:]) for start, row in zip(starts, rows)]
        return jax.lax.scan(lambda total, row: (list(combine(total, row)), None), totals, rows)[0]

    count = len(values)
    return build.call(lambda *given: fold(given[:count], given[count:]), *values, *starts)


@primitive("reduce_xor")
def reduce_xor(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Exclusive or of bools: whether an odd number of them holds; of integers bit by bit."""
    axes = eqn.params["axes"]
    if x.dtype == bool:
        total = reduced(build, "ReduceSum", build.cast(x, np.int32), axes)
        return build.cast(build.elementwise("Mod", [total, build.like(total, 2)]), bool)
    return _folded(build, lambda a, b: (a[0] ^ b[0],), [x], [build.like(x, 0)], axes)[0]


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
