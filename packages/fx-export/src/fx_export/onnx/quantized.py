"""Weights of few bits: ONNX has operators that make floats of their codes, which runtimes join with what uses them."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from fx_export.onnx.builder import Builder
from fx_export.onnx.tensor import Tensor, stored_tensor

__all__ = ["named_function"]

# Operators on blocks, and four bits.
_BLOCKS = 21
_NAMES = re.compile(r"fx_(dot|conv|dequantize|unpack)_int([48])(_static)?")
_PRIMITIVES = ("dot_general", "conv_general_dilated")
_OF_CONVOLUTIONS = (
    "window_strides",
    "padding",
    "lhs_dilation",
    "rhs_dilation",
    "feature_group_count",
    "batch_group_count",
)


def named_function(build: Builder, eqn: Any, inputs: Sequence[Tensor]) -> list[Tensor] | None:
    """Translates what fx-compress compiles under a name of its own; None for other functions, and where it cannot be.

    Args:
      build: the builder.
      eqn: the call of the function.
      inputs: its inputs: the array that is multiplied, if there is one, codes as they are stored, their scale, and the
        zero point or the scale of rounded inputs.
    """
    name = str(eqn.params.get("name"))
    known = _NAMES.fullmatch(name) if eqn.outvars else None
    if known is None:
        return None
    result, (what, bits, static) = eqn.outvars[0].aval, known.groups()
    weights = inputs[1:] if what in ("dot", "conv") else inputs
    if not all(_array(build, x) is not None for x in weights) or (bits == "4" and build.opset < _BLOCKS):
        return None
    if what == "unpack":
        return [build.stored_as(_four_bits(build, inputs[0], result.shape), np.dtype("int8"))]
    if result.dtype != np.float32 or weights[1].stored != np.float32:
        return None
    if what == "dequantize":
        codes = _four_bits(build, inputs[0], result.shape) if bits == "4" else inputs[0]
        weight = _floats(build, codes, *(_array(build, x) for x in inputs[1:]))
        return None if weight is None else [weight]
    if inputs[0].stored != np.float32:
        return None
    (inner,) = (one for one in eqn.params["jaxpr"].eqns if one.primitive.name in _PRIMITIVES)
    made = _convolution if what == "conv" else _product
    found = made(build, inner, inputs, result.shape, static is not None)
    return None if found is None else [found]


def _array(build: Builder, tensor: Tensor) -> np.ndarray | None:
    """The values of a weight that lies as it is."""
    known = build.values.initializers.get(tensor.name) if tensor.name is not None and tensor.as_it_lies else None
    return build.known(tensor) if known is None else known


def _four_bits(build: Builder, packed: Tensor, shape: tuple[Any, ...]) -> Tensor:
    """The codes of four bits that lie in pairs, as a weight of such numbers."""
    array = _array(build, packed)
    assert array is not None
    codes = _pairs(array, shape).astype(ml_dtypes.int4)
    return _weight(build, f"{packed.name or 'constant'}/codes", codes, np.dtype("int8"))


def _pairs(array: np.ndarray, shape: tuple[Any, ...]) -> np.ndarray:
    """The codes of an array of this shape, of which two are in each byte, as int8."""
    pairs = np.stack([array & 15, array >> 4], axis=-1).reshape(*array.shape[:-1], -1)[..., : shape[-1]]
    return np.where(pairs > 7, pairs.astype(np.int8) - 16, pairs).astype(np.int8)


def _weight(build: Builder, name: str, array: np.ndarray, dtype: np.dtype) -> Tensor:
    found = build.values.initializers.get(name)
    if found is None or found.dtype != array.dtype or found.shape != array.shape:
        name = build.values.parameter(name, array)
    return stored_tensor(name, array.shape, dtype, array.dtype)


def _floats(build: Builder, codes: Tensor, scales: Any, zeros: Any = None) -> Tensor | None:
    """Codes times scales, of all, of each entry along an axis, or of each block along one; None for others.

    That is done once in a program, outside of its loops.
    """
    if scales.dtype != np.float32 or scales.ndim != codes.ndim:
        return None
    attributes: dict[str, Any] = {}
    many = [axis for axis, size in enumerate(scales.shape) if size != 1]
    if len(many) <= 1 and (not many or scales.shape[many[0]] == codes.shape[many[0]]):
        laid: tuple[int, ...] = (scales.size,) if many else ()
        attributes = {"axis": many[0]} if many else {}
    else:
        fewer = [axis for axis in range(codes.ndim) if scales.shape[axis] != codes.shape[axis]]
        if len(fewer) != 1 or build.opset < _BLOCKS:
            return None
        laid = scales.shape
        attributes = {"axis": fewer[0], "block_size": codes.shape[fewer[0]] // scales.shape[fewer[0]]}
    vectors = [scales.reshape(laid), *([] if zeros is None else [zeros.reshape(laid).astype(codes.stored)])]
    within, outermost = build.graph, build.graph
    while outermost.parent is not None:
        outermost = outermost.parent
    build.graph = outermost
    try:
        given = [build.name(codes), *map(build.values.constant, vectors)]
        (name,) = build.emit("DequantizeLinear", given, [(np.dtype("float32"), codes.shape)], attributes)
    finally:
        build.graph = within
    return stored_tensor(name, codes.shape, np.float32)


def _convolution(
    build: Builder, inner: Any, inputs: Sequence[Tensor], shape: tuple[Any, ...], static: bool
) -> Tensor | None:
    """A convolution with a kernel that lies as ONNX has it, so that runtimes find the operators side by side."""
    del shape
    lhs, values, scale, *more = inputs
    kernel, numbers = inner.invars[1].aval.shape, inner.params["dimension_numbers"]
    order = tuple(numbers.rhs_spec)
    small = [_known(build, x) for x in (scale, *(() if static else more))]
    codes, small = _laid_out(build, values, kernel, small, lambda x: x.transpose(order), static)
    x = _rounded(build, lhs, more[0]) if static else lhs
    weight = _floats(build, codes, *small)
    if x is None or weight is None:
        return None
    laid = numbers._replace(rhs_spec=tuple(range(len(order))))
    given = {name: value for name, value in inner.params.items() if name in _OF_CONVOLUTIONS}

    def convolved(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, w, **given, dimension_numbers=laid)

    (result,) = build.call(convolved, x, weight)
    return _with_nan(build, lhs, result, [numbers.lhs_spec[0]], [numbers.out_spec[0]]) if static else result


def _product(
    build: Builder, inner: Any, inputs: Sequence[Tensor], shape: tuple[Any, ...], static: bool
) -> Tensor | None:
    """A product with a weight that lies as a matrix, or with its transpose."""
    lhs, values, scale, *more = inputs
    ((of_lhs, of_rhs), batch), kernel = inner.params["dimension_numbers"], inner.invars[1].aval.shape
    if any(batch):
        return None
    free = [axis for axis in range(lhs.ndim) if axis not in of_lhs]
    small = [_known(build, x) for x in (scale, *(() if static else more))]
    count, rows = len(of_rhs), math.prod(kernel[axis] for axis in of_rhs)
    matrix = tuple(of_rhs) == tuple(range(count))

    def arranged(x: np.ndarray) -> np.ndarray:
        if not matrix or len(kernel) == 2:
            return x
        return np.broadcast_to(x, (*x.shape[:count], *kernel[count:])).reshape(math.prod(x.shape[:count]), -1)

    codes, small = _laid_out(build, values, kernel, small, arranged, static)
    x = _rounded(build, lhs, more[0]) if static else lhs
    weight = _floats(build, codes, *small)
    if x is None or weight is None:
        return None
    dims = ((tuple(of_lhs), tuple(of_rhs)), ((), ()))

    def multiplied(x: jax.Array, w: jax.Array) -> jax.Array:
        if not matrix:
            return lax.dot_general(x, w, dims)
        together = lax.reshape(lax.transpose(x, (*free, *of_lhs)), (*(x.shape[axis] for axis in free), rows))
        return lax.reshape(lax.dot_general(together, w, (((len(free),), (0,)), ((), ()))), shape)

    (result,) = build.call(multiplied, x, weight)
    return _with_nan(build, lhs, result, free, range(len(free))) if static else result


def _laid_out(
    build: Builder,
    values: Tensor,
    kernel: tuple[int, ...],
    small: list[np.ndarray],
    arranged: Callable[[np.ndarray], np.ndarray],
    static: bool,
) -> tuple[Tensor, list[np.ndarray]]:
    """Codes, scales and zero points in another layout.

    Where inputs are integers, codes are unsigned by an offset of 128, or 8 for four bits: of two signed factors, ONNX
    Runtime makes one unsigned and adds products of both in 16 bits on processors without instructions for it, which
    overflows.
    """
    packed = values.dtype == np.uint8
    codes = _four_bits(build, values, kernel) if packed and not static else values
    array = _known(build, codes)
    if static:
        array = _pairs(array, kernel) if packed else array
        offset, unsigned = (8, ml_dtypes.uint4) if packed else (128, np.uint8)
        array, small = (array.astype(np.int16) + offset).astype(unsigned), [small[0], np.full_like(small[0], offset)]
    laid = arranged(array)
    if laid is array and not static:
        return codes, [arranged(x) for x in small]
    name = f"{codes.name or 'constant'}/{'unsigned' if static else 'laid'}"
    return _weight(build, name, laid, np.dtype("uint8" if static else "int8")), [arranged(x) for x in small]


def _known(build: Builder, tensor: Tensor) -> np.ndarray:
    array = _array(build, tensor)
    assert array is not None
    return array


def _rounded(build: Builder, x: Tensor, scale: Tensor) -> Tensor | None:
    """Floats that were integers in between."""
    known = _known(build, scale)
    if known.size != 1 or known.dtype != np.float32:
        return None
    # The operator goes down to -128, and fx to -127. Both factors are unsigned, see `_laid_out`.
    above = build.plain(build.elementwise("Max", [x, build.like(x, np.float32(-127) * known.reshape(()))]))
    by = [build.values.constant(known.reshape(())), build.values.constant(np.full((), 128, np.uint8))]
    (whole,) = build.emit("QuantizeLinear", [build.name(above), *by], [(np.dtype("uint8"), x.shape)])
    (name,) = build.emit("DequantizeLinear", [whole, *by], [(np.dtype("float32"), x.shape)])
    return stored_tensor(name, x.shape, np.float32)


def _with_nan(
    build: Builder, inputs: Tensor, result: Tensor, of_inputs: Sequence[int], of_result: Sequence[int]
) -> Tensor:
    """The result, of which that is NaN whose inputs are: no integer is."""

    def kept(x: jax.Array, y: jax.Array) -> jax.Array:
        bad = jnp.isnan(x).any([axis for axis in range(x.ndim) if axis not in of_inputs])
        factor = jnp.where(bad, jnp.float32(jnp.nan), jnp.float32(1))
        return y * jnp.expand_dims(factor, [axis for axis in range(y.ndim) if axis not in of_result])

    return build.call(kept, inputs, result)[0]
