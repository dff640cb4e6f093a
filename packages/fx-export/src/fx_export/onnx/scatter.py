"""Scattering: writing windows into an array at places that are given."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.compat import jax as compat

from fx_export.onnx import indices as places
from fx_export.onnx.builder import Builder
from fx_export.onnx.elementwise import where
from fx_export.onnx.indices import Windows
from fx_export.onnx.kernels import resting
from fx_export.onnx.registry import primitive
from fx_export.onnx.tensor import Tensor, stored_tensor
from fx_export.onnx.walk import Open

_REDUCTIONS = {
    "scatter": "none",
    "scatter_add": "add",
    "scatter-add": "add",
    "scatter_mul": "mul",
    "scatter-mul": "mul",
    "scatter_min": "min",
    "scatter-min": "min",
    "scatter_max": "max",
    "scatter-max": "max",
    "scatter_sub": "sub",
    "scatter-sub": "sub",
}


@primitive(*_REDUCTIONS)
def scatter(build: Builder, eqn: Any, operand: Tensor, starts: Tensor, updates: Tensor) -> Tensor:
    """An array with windows written over, added to, or compared with what is there."""
    reduction = _REDUCTIONS[eqn.primitive.name]
    combine = eqn.params["update_jaxpr"]
    if reduction == "none" and combine is not None and combine.outvars[0] is not combine.invars[1]:
        return _applied(build, eqn, operand, starts, updates)
    if operand.dtype == bool and reduction != "none":
        # Runtimes have no kernel for extremes of bools.
        operand, updates = build.cast(operand, np.int32), build.cast(updates, np.int32)
        return build.cast(_scattered(build, eqn, operand, starts, updates, reduction), bool)
    return _scattered(build, eqn, operand, starts, updates, reduction)


def _applied(build: Builder, eqn: Any, operand: Tensor, starts: Tensor, updates: Tensor) -> Tensor:
    """What ``x.at[...].apply`` does: a function of the elements at places, as often as a place is given."""
    p = eqn.params
    combine = Open(p["update_jaxpr"], p["update_consts"])

    def apply(operand: jax.Array, starts: jax.Array, updates: jax.Array) -> jax.Array:
        ones = jnp.ones(updates.shape, np.int32)
        none = jnp.zeros(operand.shape, np.int32)
        times = jax.lax.scatter_add(none, starts, ones, p["dimension_numbers"], mode=p["mode"])
        nothing = jnp.zeros((), operand.dtype)
        step = jax.vmap(lambda x: compat.evaluate_jaxpr(combine, x, nothing)[0])

        def again(number: jax.Array, x: jax.Array) -> jax.Array:
            return jnp.where(times > number, step(x.ravel()).reshape(x.shape), x)

        return jax.lax.fori_loop(0, times.max(initial=0), again, operand)

    return build.call(apply, operand, starts, updates)[0]


def _scattered(build: Builder, eqn: Any, operand: Tensor, starts: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "sub":
        reduction, updates = "add", build.elementwise("Neg", [updates])
    numbers, mode = eqn.params["dimension_numbers"], eqn.params["mode"]
    batching = tuple(zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims))
    inserted, shape = tuple(numbers.inserted_window_dims), operand.shape
    if not operand.ndim:
        operand, inserted = build.reshape(operand, (1,)), (0,)
    hidden = (*inserted, *(axis for axis, _ in batching))
    shown = [axis for axis in range(operand.ndim) if axis not in hidden]
    window_sizes = dict(zip(shown, (updates.shape[axis] for axis in numbers.update_window_dims)))
    given = tuple(numbers.scatter_dims_to_operand_dims)
    windows = Windows(
        sizes=tuple(window_sizes.get(axis, 1) for axis in range(operand.ndim)),
        start_axes=given,
        collapsed=inserted,
        batched=batching,
    )
    # Of what a window has some elements only, without a place, these are the first.
    partly = [axis for axis, size in window_sizes.items() if size != operand.shape[axis] and axis not in given]
    windows, starts = places.with_first_places(build, windows, starts, partly)
    # XLA leaves out what is not inside, also of places that are promised to be.
    mode = jax.lax.GatherScatterMode.from_any(mode)
    mode = mode if mode == jax.lax.GatherScatterMode.CLIP else jax.lax.GatherScatterMode.FILL_OR_DROP
    inside, starts = places.within(build, windows, operand.shape, starts, mode)
    axes = tuple(numbers.update_window_dims)
    return build.reshape(_written(build, windows, operand, starts, updates, inside, axes, reduction), shape)


def _written(
    build: Builder,
    windows: Windows,
    operand: Tensor,
    starts: Tensor,
    updates: Tensor,
    inside: Tensor | None,
    update_axes: tuple[int, ...],
    reduction: str,
) -> Tensor:
    order, indices, spread = places.complete(build, windows, operand, starts)
    rest = [axis for axis in range(operand.ndim) if axis not in order]
    moved = build.transpose(operand, [*order, *rest])
    size = moved.shape[0]
    if inside is not None:
        # Windows that are not inside are written to one more row, which is cut away again.
        spare = build.broadcast(build.like(operand, 0), (1, *moved.shape[1:]), ())
        moved = build.op("Concat", [moved, spare], (size + 1, *moved.shape[1:]), typed=[0, 1], axis=0)
        indices = _redirected(build, indices, inside, size)
    lying = _moved_updates(build, windows, updates, update_axes, spread, rest)
    # Runtimes write float16 but do not add or compare it there.
    dtype = np.dtype("float32") if reduction != "none" and operand.dtype == np.float16 else resting(operand.dtype)
    inputs = [build.stored_as(build.plain(moved), dtype), build.plain(indices), build.stored_as(lying, dtype)]
    attributes = {} if reduction == "none" else {"reduction": reduction}
    (name,) = build.emit("ScatterND", [build.name(t) for t in inputs], [(dtype, moved.shape)], attributes)
    result = build.rested(stored_tensor(name, moved.shape, operand.dtype, dtype))
    if inside is not None:
        limits = [size, *moved.shape[1:]]
        result = build.slice(result, [0] * moved.ndim, limits, [1] * moved.ndim)
    return build.transpose(result, np.argsort([*order, *rest]).tolist())


def _redirected(build: Builder, indices: Tensor, inside: Tensor, row: Any) -> Tensor:
    spread = build.broadcast(inside, indices.shape, range(inside.ndim))
    count = indices.shape[-1]
    if count == 1:
        return where(build, spread, indices, build.size(row))
    first = build.constant([True] + [False] * (count - 1), bool)
    redirect = build.broadcast(first, indices.shape, (len(indices.shape) - 1,))
    outside = build.elementwise("Not", [spread])
    return where(build, build.elementwise("And", [outside, redirect]), build.size(row), indices)


def _moved_updates(
    build: Builder,
    windows: Windows,
    updates: Tensor,
    update_axes: tuple[int, ...],
    spread: list[int],
    rest: list[int],
) -> Tensor:
    """Bring updates into the order of the indices: places, what is spread, whole axes."""
    hidden = (*windows.collapsed, *windows.batch_axes)
    shown = [axis for axis in range(len(windows.sizes)) if axis not in hidden]
    at = dict(zip(shown, update_axes))
    batch = [axis for axis in range(updates.ndim) if axis not in update_axes]
    ones = [at[axis] for axis in shown if axis not in spread and axis not in rest]
    moved = build.transpose(updates, [*batch, *(at[a] for a in spread), *(at[a] for a in rest), *ones])
    return build.plain(build.squeeze(moved, range(updates.ndim - len(ones), updates.ndim)))
