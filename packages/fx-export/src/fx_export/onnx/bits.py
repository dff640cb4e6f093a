"""Arithmetic with the bits of numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import primitive
from fx_export.onnx.tensor import Tensor


@primitive("population_count", elementwise=True)
def population_count(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The number of bits that are set."""
    width = x.dtype.itemsize * 8

    def count(value: jax.Array) -> jax.Array:
        unsigned = value.astype(f"uint{width}")
        bits = [(unsigned >> jnp.array(n, unsigned.dtype)) & jnp.array(1, unsigned.dtype) for n in range(width)]
        return sum(bits[1:], bits[0]).astype(value.dtype)

    return build.call(count, x)[0]


@primitive("clz", elementwise=True)
def leading_zeros(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The number of zero bits before the first that is set."""
    width = x.dtype.itemsize * 8

    def count(value: jax.Array) -> jax.Array:
        bits = value.astype(f"uint{width}")
        for step in (1, 2, 4, 8, 16, 32):
            if step < width:
                bits = bits | (bits >> jnp.array(step, bits.dtype))
        return jax.lax.population_count(~bits).astype(value.dtype)

    return build.call(count, x)[0]


@primitive("shift_left", "shift_right_logical", "shift_right_arithmetic", elementwise=True)
def shift(build: Builder, eqn: Any, x: Tensor, count: Tensor) -> Tensor:
    """Shifts of bits; by the width or more they leave nothing, which ONNX does not say of its operator."""
    width, dtype = x.dtype.itemsize * 8, x.dtype
    unsigned = np.dtype(f"uint{width}")
    left = eqn.primitive.name == "shift_left"
    by, given = build.cast(count, unsigned), build.cast(x, unsigned)
    moved = build.elementwise("BitShift", [given, by], direction="LEFT" if left else "RIGHT")
    known = build.known(by)
    within = known is not None and bool(np.all(known < width))
    if not within:
        over = build.elementwise("GreaterOrEqual", [by, build.constant(width, unsigned)], bool)
        moved = build.elementwise("Where", [over, build.constant(0, unsigned), moved])
    if eqn.primitive.name != "shift_right_arithmetic":
        return build.cast(moved, dtype)
    limited = by if within else build.elementwise("Min", [by, build.constant(width - 1, unsigned)])
    ones = build.constant(np.iinfo(unsigned).max, unsigned)
    kept = build.elementwise("BitShift", [ones, limited], direction="RIGHT")
    logical = build.elementwise("BitShift", [given, limited], direction="RIGHT")
    filled = build.elementwise("BitwiseOr", [logical, build.elementwise("BitwiseNot", [kept])])
    signed = build.cast(x, f"int{width}")
    negative = build.elementwise("Less", [signed, build.like(signed, 0)], bool)
    return build.cast(build.elementwise("Where", [negative, filled, logical]), dtype)


@primitive("nextafter", elementwise=True)
def next_after(build: Builder, eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """The next number of the dtype towards another one, by its bits."""
    width = x.dtype.itemsize * 8

    def step(x: jax.Array, y: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x, f"int{width}")
        away = (x < y) == (x > 0)
        moved = jax.lax.bitcast_convert_type(jnp.where(away, bits + 1, bits - 1), x.dtype)
        tiny = jax.lax.bitcast_convert_type(jnp.array(1, bits.dtype), x.dtype)
        moved = jnp.where(x == 0, jnp.where(y > 0, tiny, -tiny), moved)
        return jnp.where(jnp.isnan(x) | jnp.isnan(y), x + y, jnp.where(x == y, y, moved))

    return build.call(step, x, y)[0]
