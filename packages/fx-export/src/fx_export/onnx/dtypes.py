"""Changes of dtype."""

from typing import Any

import jax
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
    return build.stored_as(build.stored_as(x, jax.numpy.dtype(names[bits])), x.stored)


@primitive("bitcast_convert_type")
def bitcast(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The same bits as another dtype of the same width; before opset 26 by a table of the powers of two."""
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
    raise RefusedError(f"from {old} to {new}; export with opset=26, which has an operator for it")


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
    """Give the entry of a table for each number, which lie as the numbers do."""
    inputs = [build.name(table), build.name(place)]
    (name,) = build.emit("Gather", inputs, [(table.stored, place.stored_shape)], {"axis": 0})
    return Tensor(place.shape, table.dtype, place.axes, table.stored, name)
