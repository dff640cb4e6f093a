"""Changes of dtype."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import RefusedError, primitive
from fx_export.onnx.tensor import Tensor, stored_tensor
from fx_export.onnx.walk import dtype_of


@primitive("convert_element_type", elementwise=True)
def convert(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Conversion of numbers."""
    return build.cast(x, eqn.params["new_dtype"])


@primitive("reduce_precision", elementwise=True)
def reduce_precision(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Rounding to the numbers of a smaller dtype: those of bfloat16, float16 and float32."""
    bits = eqn.params["exponent_bits"], eqn.params["mantissa_bits"]
    names = {(8, 7): "bfloat16", (5, 10): "float16", (8, 23): "float32", (11, 52): "float64"}
    if bits not in names:
        raise RefusedError(f"{bits[0]} bits of exponent and {bits[1]} of mantissa, which no dtype of ONNX has")
    return build.stored_as(build.stored_as(x, jnp.dtype(names[bits])), x.stored)


@primitive("bitcast_convert_type")
def bitcast(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The same bits as another dtype of the same width; before opset 26 by arithmetic with powers of two."""
    new = dtype_of(eqn.outvars[0].aval)
    old = x.dtype
    if new.itemsize != old.itemsize:
        raise RefusedError("another width")
    if {new.kind, old.kind} <= set("iu"):
        return build.cast(x, new)
    if build.opset >= 26:
        exact = build.stored_as(build.plain(x), old)
        (name,) = build.emit("BitCast", [build.name(exact)], [(new, x.shape)], {"to": new})
        return build.rested(stored_tensor(name, x.shape, new))
    if old.kind in "iu" and old.itemsize <= 2:
        table = build.constant(np.arange(256**old.itemsize, dtype=f"uint{8 * old.itemsize}").view(new))
        return _looked_up(build, table, build.cast(build.cast(x, f"uint{8 * old.itemsize}"), np.int64))
    if old.itemsize == 4 and old.kind in "iu" and new == np.float32:
        return _float_of_bits(build, x)
    if old in _FORMATS and new.kind in "iu":
        return build.cast(build.call(functools.partial(_bits_of_float, _FORMATS[old]), x)[0], new)
    raise RefusedError(f"from {old} to {new}; export with opset=26, which has an operator for it")


_FORMATS = {np.dtype(name): (least, bits) for name, least, bits in
            (("float32", -126, 23), (jnp.bfloat16, -126, 7), ("float16", -14, 10))}  # fmt: skip
"""The least exponent of a normal number, and how many bits the mantissa has."""


def _bits_of_float(form: tuple[int, int], x: jax.Array) -> jax.Array:
    """Returns the bits of floats by arithmetic that is exact; those of NaN are those of a positive quiet one."""
    least, mantissa = form
    word = jnp.dtype(f"uint{x.dtype.itemsize * 8}")
    wide = x.astype(jnp.float32)
    size = jnp.abs(wide)
    largest = 1 - least
    powers = jnp.asarray(np.ldexp(np.float32(1), np.arange(least, largest + 1)))
    place = jnp.clip(jnp.floor(jnp.log2(size)), least, largest).astype(jnp.int32) - least
    # The logarithm may be one off.
    place = jnp.clip(jnp.where(size < powers[place], place - 1, place), 0, largest - least)
    place = jnp.clip(jnp.where(size >= 2 * powers[place], place + 1, place), 0, largest - least)
    fraction = size / powers[place]
    normal = fraction >= 1
    rest = (jnp.where(normal, fraction - 1, fraction) * 2**mantissa).astype(jnp.uint32)
    bits = (jnp.where(normal, place + 1, 0).astype(jnp.uint32) << mantissa) | rest
    infinite = jnp.uint32((2 * largest + 1) << mantissa)
    quiet = infinite | jnp.uint32(1 << (mantissa - 1))
    bits = jnp.where(jnp.isinf(wide), infinite, jnp.where(jnp.isnan(wide), quiet, bits))
    negative = (wide < 0) | ((wide == 0) & (1 / wide < 0))
    sign = jnp.uint32(1 << (8 * x.dtype.itemsize - 1))
    return (bits | jnp.where(negative, sign, jnp.uint32(0))).astype(word)


def _float_of_bits(build: Builder, x: Tensor) -> Tensor:
    word = np.dtype("uint32")
    bits = build.cast(x, word)

    def field(shift: int, mask: int) -> Tensor:
        moved = build.elementwise("BitShift", [bits, build.constant(shift, word)], direction="RIGHT") if shift else bits
        return build.elementwise("BitwiseAnd", [moved, build.constant(mask, word)])

    exponent, mantissa = field(23, 0xFF), build.cast(field(0, 0x7FFFFF), np.float32)
    # A float is base + mantissa · unit; both depend on sign and exponent, and are exact.
    number = np.arange(512, dtype=np.uint32) << 23
    base = number.view(np.float32)
    with np.errstate(invalid="ignore"):
        unit = np.nextafter(base, np.where(base < 0, -np.inf, np.inf).astype(np.float32)) - base
    unit[[0, 256]] = np.float32(1.401298464324817e-45) * np.array([1, -1], np.float32)
    unit[[255, 511]] = np.nan
    sign = build.elementwise("BitShift", [field(31, 1), build.constant(8, word)], direction="LEFT")
    place = build.cast(build.elementwise("BitwiseOr", [sign, exponent]), np.int64)
    bases, units = (_looked_up(build, build.constant(table), place) for table in (base, unit))
    nothing = build.elementwise("Equal", [mantissa, build.constant(0, np.float32)], bool)
    finite_unit = build.elementwise("Where", [nothing, build.constant(0, np.float32), units])
    return build.elementwise("Add", [bases, build.elementwise("Mul", [mantissa, finite_unit])])


def _looked_up(build: Builder, table: Tensor, place: Tensor) -> Tensor:
    """Returns the entry of a table for each number, which lie as the numbers do."""
    inputs = [build.name(table), build.name(place)]
    (name,) = build.emit("Gather", inputs, [(table.stored, place.stored_shape)], {"axis": 0})
    return Tensor(place.shape, table.dtype, place.axes, table.stored, name)
