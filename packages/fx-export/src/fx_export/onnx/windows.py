"""Windows that slide, and running totals."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.compat import jax as compat

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import RefusedError, primitive
from fx_export.onnx.shapes import padded, spread_out, with_windows
from fx_export.onnx.tensor import Tensor, at_least_one, at_least_zero, is_static
from fx_export.onnx.walk import Open

_COMBINED = {"max": "reduce_window_max", "min": "reduce_window_min", "add": "reduce_window_sum"}


@primitive("reduce_window")
def reduce_window_by(build: Builder, eqn: Any, *inputs: Tensor) -> Sequence[Tensor]:
    """Windows that are combined by a function; where it is more than an extreme or a sum, element by element."""
    p, count = eqn.params, len(inputs) // 2
    jaxpr, combine = p["jaxpr"], Open(p["jaxpr"], p["consts"])
    name = _COMBINED.get(jaxpr.eqns[0].primitive.name) if len(jaxpr.eqns) == 1 and count == 1 else None
    known = build.known(inputs[1]) if name is not None else None
    if name is not None and known is not None and known == np.asarray(_neutral(name, inputs[0].dtype), inputs[0].dtype):
        return [_reduced(build, name, eqn, inputs[0])]
    shape = eqn.outvars[0].aval.shape
    window = _Window(p["window_dimensions"], p["window_strides"], p["window_dilation"], p["padding"])

    def fold(*given: jax.Array) -> Sequence[jax.Array]:
        values, starts = given[:count], given[count:]
        config = [(low, high, factor - 1) for (low, high), factor in zip(window.padding, p["base_dilation"])]
        spread = [jax.lax.pad(value, start, config) for value, start in zip(values, starts)]
        # XLA leaves out what is added around and between, which counts where the start is not neutral.
        inside = jax.lax.pad(jnp.ones(values[0].shape, bool), np.False_, config)
        totals = [jnp.broadcast_to(start, shape) for start in starts]
        for place in np.ndindex(*window.sizes):
            first = [int(at) * gap for at, gap in zip(place, window.gaps)]
            limits = [low + (size - 1) * step + 1 for low, size, step in zip(first, shape, window.steps)]
            there, *parts = (jax.lax.slice(value, first, limits, window.steps) for value in (inside, *spread))
            new = compat.evaluate_jaxpr(combine, *totals, *parts)
            totals = [jnp.where(there, one, old) for one, old in zip(new, totals)]
        return totals

    return build.call(fold, *inputs)


@primitive(*_COMBINED.values())
def reduce_window(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Extremes and sums of windows, as pooling takes them."""
    return _reduced(build, eqn.primitive.name, eqn, x)


def _reduced(build: Builder, name: str, eqn: Any, x: Tensor) -> Tensor:
    p, shape = eqn.params, eqn.outvars[0].aval.shape
    neutral = build.like(x, _neutral(name, x.dtype))
    for axis, factor in enumerate(p["base_dilation"]):
        if factor != 1:
            x = spread_out(build, x, axis, factor, neutral)
    padding = p["padding"]
    if not is_static([count for pair in padding for count in pair]):
        # Operators have fixed padding only.
        low, high = ([pair[end] for pair in padding] for end in (0, 1))
        x, padding = padded(build, x, low, high, neutral), [(0, 0)] * len(padding)
    window = _Window(p["window_dimensions"], p["window_strides"], p["window_dilation"], padding)
    if name == "reduce_window_sum":
        return _summed(build, x, window, shape)
    if name == "reduce_window_max":
        return _pooled(build, "MaxPool", x, window, neutral, shape)
    return _lowest(build, x, window, shape)


def _neutral(name: str, dtype: np.dtype) -> Any:
    if name == "reduce_window_sum":
        return 0
    low = name == "reduce_window_max"
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if low else np.iinfo(dtype).max
    return -np.inf if low else np.inf


class _Window:
    """Sizes, steps, gaps and padding, one for each axis."""

    def __init__(self, sizes: Sequence[int], steps: Sequence[int], gaps: Sequence[int], padding: Any):
        self.sizes, self.steps, self.gaps = list(sizes), list(steps), list(gaps)
        self.padding = [(int(a), int(b)) for a, b in padding]

    @property
    def axes(self) -> list[int]:
        """Where anything happens."""
        each = zip(self.sizes, self.steps, self.padding)
        return [axis for axis, (size, step, pad) in enumerate(each) if (size, step, *pad) != (1, 1, 0, 0)]


def _lowest(build: Builder, x: Tensor, window: _Window, shape: Sequence[Any]) -> Tensor:
    """The smallest is minus the largest of the negative; of integers, of the complement, which cannot overflow."""
    op = "BitwiseNot" if x.dtype.kind in "iu" else "Neg"
    turned = build.elementwise(op, [x])
    neutral = build.like(x, _neutral("reduce_window_max", x.dtype))
    return build.elementwise(op, [_pooled(build, "MaxPool", turned, window, neutral, shape)])


def _pooled(build: Builder, op: str, x: Tensor, window: _Window, neutral: Tensor, shape: Sequence[Any]) -> Tensor:
    """Pool over two axes at a time: runtimes have no kernel for more than three, and a right one for two."""
    axes = window.axes
    for count in range(0, len(axes), 2):
        some = axes[count : count + 2]
        x = _pooled_along(build, op, x, window, some, neutral, [shape[axis] for axis in some])
    return x.relabeled(shape, x.axes)


def _pooled_along(
    build: Builder,
    op: str,
    x: Tensor,
    window: _Window,
    axes: Sequence[int],
    neutral: Tensor,
    outputs: Sequence[Any],
) -> Tensor:
    """Bring the axes of the windows to the end, and those before into two."""
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    pads = [window.padding[a] for a in axes]
    if op == "AveragePool" or any(min(p) < 0 or max(p) >= window.sizes[a] for p, a in zip(pads, axes)):
        low, high = ([p[n] if a in axes else 0 for a, p in enumerate(window.padding)] for n in (0, 1))
        x, pads = padded(build, x, low, high, neutral), [(0, 0)] * len(axes)
    lengths = {a: window.gaps[a] * (window.sizes[a] - 1) + 1 - sum(pair) for a, pair in zip(axes, pads)}
    x = with_windows(build, x, lengths, dict(zip(axes, outputs)), neutral)
    moved = build.transpose(x, [*rest, *axes])
    lead = (1,) * (2 - len(rest)) if len(rest) <= 2 else (x.shape[rest[0]], math.prod(x.shape[a] for a in rest[1:]))
    merged = (*lead, *moved.shape) if len(rest) <= 2 else (*lead, *moved.shape[len(rest) :])
    # The kernel for one axis takes the least finite number for the largest of negative infinities.
    alone = [1] * (2 - len(axes))
    flat = build.reshape(moved, (*merged, *alone))
    attributes: dict[str, Any] = {
        "kernel_shape": [*(window.sizes[a] for a in axes), *alone],
        "strides": [*(window.steps[a] for a in axes), *alone],
        "dilations": [*(window.gaps[a] for a in axes), *alone],
        "pads": [*(a for a, _ in pads), *(0 for _ in alone), *(b for _, b in pads), *(0 for _ in alone)],
    }
    found = map(at_least_one, outputs)
    pooled = build.op(op, [flat], (*flat.shape[:2], *found, *alone), **attributes)
    if op == "MaxPool" and _starts_finite(x, [window.gaps[a] for a in axes]):
        lowest = build.like(x, jnp.finfo(x.dtype).min)
        pooled = build.elementwise("Where", [build.elementwise("Equal", [pooled, lowest], bool), neutral, pooled])
    if op == "MaxPool" and x.dtype.kind not in "iu":
        # Runtimes leave NaN out, or take it where it comes last: windows that hold one are found by themselves.
        unknown = build.cast(build.elementwise("IsNaN", [flat], bool), np.float32)
        most = build.op(op, [unknown], pooled.shape, **attributes)
        held = build.elementwise("Greater", [most, build.like(most, 0)], bool)
        pooled = build.elementwise("Where", [held, build.like(pooled, np.nan), pooled])
    pooled = build.slice(pooled, [0] * 4, (*pooled.shape[:2], *outputs, *alone), [1] * 4)
    apart = build.reshape(pooled, (*(x.shape[a] for a in rest), *outputs))
    return build.transpose(apart, np.argsort([*rest, *axes]).tolist())


def _starts_finite(x: Tensor, gaps: Sequence[int]) -> bool:
    """Whether the kernel for such windows begins with the least finite number in place of negative infinity."""
    return x.dtype.kind not in "iu" and (x.stored != np.float32 or any(gap != 1 for gap in gaps))


def _summed(build: Builder, x: Tensor, window: _Window, shape: Sequence[Any]) -> Tensor:
    """Sums of floats are averages times the size; those of integers are differences of running totals, thus exact."""
    axes = window.axes
    dilated = any(window.gaps[axis] != 1 for axis in axes)
    if x.dtype.kind not in "iu" and not (dilated and build.opset < 19):
        mean = _pooled(build, "AveragePool", x, window, build.like(x, 0), shape)
        return build.elementwise("Mul", [mean, build.like(x, math.prod(window.sizes))])
    if dilated:
        raise RefusedError("sums of windows with gaps, of integers or before opset 19")
    low, high = ([p[n] for p in window.padding] for n in (0, 1))
    x = padded(build, x, low, high, build.like(x, 0))
    for axis in axes:
        x = _differences(build, x, axis, window.sizes[axis], window.steps[axis])
    return x.relabeled(shape, x.axes)


def _differences(build: Builder, x: Tensor, axis: int, size: int, step: int) -> Tensor:
    before = [1 if a == axis else 0 for a in range(x.ndim)]
    longer = padded(build, x, before, [0] * x.ndim, build.like(x, 0))
    total = build.op("CumSum", [longer, build.constant(axis, np.int64)], longer.shape)
    last, steps = longer.shape[axis], [step if a == axis else 1 for a in range(x.ndim)]

    def part(start: Any, end: Any) -> Tensor:
        limits = [end if a == axis else s for a, s in enumerate(longer.shape)]
        return build.slice(total, [start if a == axis else 0 for a in range(x.ndim)], limits, steps)

    return build.elementwise("Sub", [part(size, last), part(0, at_least_zero(last - size))])


@primitive("cumsum")
def cumulative_sum(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Running sums, from either end."""
    axis, reverse = build.constant(eqn.params["axis"], np.int64), int(eqn.params["reverse"])
    return build.op("CumSum", [x, axis], x.shape, reverse=reverse)


@primitive("cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Running products and extremes, step by step."""
    combine = {"cumprod": jnp.multiply, "cummax": jnp.maximum, "cummin": jnp.minimum, "cumlogsumexp": _log_add}
    axis, reverse = eqn.params["axis"], eqn.params["reverse"]
    binary = combine[eqn.primitive.name]

    def run(values: jax.Array) -> jax.Array:
        rows = jnp.moveaxis(values, axis, 0)
        start = jnp.full(rows.shape[1:], _START[eqn.primitive.name](values.dtype), values.dtype)

        def step(total: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
            total = binary(total, row)
            return total, total

        return jnp.moveaxis(jax.lax.scan(step, start, rows, reverse=reverse)[1], 0, axis)

    return build.call(run, x)[0]


def _log_add(a: jax.Array, b: jax.Array) -> jax.Array:
    high = jnp.maximum(a, b)
    safe = jnp.where(jnp.isinf(high), jnp.zeros_like(high), high)
    return jnp.log(jnp.exp(a - safe) + jnp.exp(b - safe)) + safe


_START = {
    "cumprod": lambda dtype: 1,
    "cummax": lambda dtype: _neutral("reduce_window_max", dtype),
    "cummin": lambda dtype: _neutral("reduce_window_min", dtype),
    "cumlogsumexp": lambda dtype: -np.inf,
}
