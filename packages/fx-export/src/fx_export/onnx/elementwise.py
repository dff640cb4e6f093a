"""Arithmetic element by element."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import RefusedError, primitive
from fx_export.onnx.tensor import Tensor

_SAME = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "max": "Max",
    "min": "Min",
    "abs": "Abs",
    "neg": "Neg",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "floor": "Floor",
}
_COMPARED = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
_BITS = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}


@primitive(*_SAME, elementwise=True)
def same(build: Builder, eqn: Any, *inputs: Tensor) -> Tensor:
    """Primitives that ONNX has under another name."""
    name = eqn.primitive.name
    if inputs[0].dtype == bool and name in ("max", "min"):
        return build.elementwise("Or" if name == "max" else "And", inputs)
    if name in ("add", "mul") and inputs[0].dtype == bool:
        return build.elementwise("Or" if name == "add" else "And", inputs)
    if name == "neg" and inputs[0].dtype.kind == "u":
        return build.elementwise("Sub", [build.like(inputs[0], 0), inputs[0]])
    return build.elementwise(_SAME[name], inputs)


@primitive(*_COMPARED, elementwise=True)
def compared(build: Builder, eqn: Any, *inputs: Tensor) -> Tensor:
    """Comparisons."""
    return build.elementwise(_COMPARED[eqn.primitive.name], inputs, bool)


@primitive("ne", elementwise=True)
def not_equal(build: Builder, eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """Inequality."""
    if x.dtype == bool:
        return build.elementwise("Xor", [x, y])
    return build.elementwise("Not", [build.elementwise("Equal", [x, y], bool)])


@primitive(*_BITS, elementwise=True)
def bits(build: Builder, eqn: Any, *inputs: Tensor) -> Tensor:
    """Logic of bools, or of the bits of integers."""
    op = _BITS[eqn.primitive.name]
    return build.elementwise(op if inputs[0].dtype == bool else f"Bitwise{op}", inputs)


@primitive("eq_to", "lt_to", "le_to", elementwise=True)
def ordered(build: Builder, eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """Comparisons in the order of sorting, in which NaN is the largest number."""
    op = _COMPARED[eqn.primitive.name.removesuffix("_to")]
    result = build.elementwise(op, [x, y], bool)
    if x.dtype.kind in "biu":
        return result
    one, other = (build.elementwise("IsNaN", [value], bool) for value in (x, y))
    number = one if op == "Equal" else build.elementwise("Not", [one])
    last = other if op == "LessOrEqual" else build.elementwise("And", [number, other])
    return build.elementwise("Or", [result, last])


@primitive("div", elementwise=True)
def divide(build: Builder, eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """Division; of integers towards zero, and by zero to minus one, as XLA has it."""
    if x.dtype.kind not in "iu":
        return build.elementwise("Div", [x, y])
    safe, zero, turned = _divisor(build, y)
    result = build.elementwise("Div", [x, safe])
    if turned is not None:
        result = build.elementwise("Where", [turned, build.elementwise("Neg", [x]), result])
    if zero is None:
        return result
    return build.elementwise("Where", [zero, build.constant(np.array(-1).astype(x.dtype)), result])


@primitive("rem", elementwise=True)
def remainder(build: Builder, eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """The remainder with the sign of the dividend; of integers by zero the dividend, as XLA has it."""
    if x.dtype.kind not in "iu":
        return build.elementwise("Mod", [x, y], fmod=1)
    safe, zero, _ = _divisor(build, y)
    result = build.elementwise("Mod", [x, safe], fmod=1)
    return result if zero is None else build.elementwise("Where", [zero, x, result])


def _divisor(build: Builder, y: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Integers to divide by without those that stop a processor: one for zero, and for minus one, whose quotient with
    the least number has no place; with where they were, None where there are none.
    """
    known = build.known(y)
    safe, places = y, list[Tensor | None]()
    for value in (0, -1) if y.dtype.kind == "i" else (0,):
        there = known is None or bool(np.any(known == value))
        place = build.elementwise("Equal", [y, build.like(y, value)], bool) if there else None
        if place is not None:
            safe = build.elementwise("Where", [place, build.like(y, 1), safe])
        places.append(place)
    return safe, places[0], places[1] if len(places) > 1 else None


@primitive("pow", elementwise=True)
def power(build: Builder, eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """Powers; exponents may be integers."""
    return build.elementwise("Pow", [x, build.cast(y, x.dtype)])


@primitive("integer_pow", elementwise=True)
def integer_power(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Powers by repeated squaring, exact for integers."""
    exponent = eqn.params["y"]
    result, square, left = None, x, abs(exponent)
    while left:
        if left & 1:
            result = square if result is None else build.elementwise("Mul", [result, square])
        left >>= 1
        if left:
            square = build.elementwise("Mul", [square, square])
    result = build.broadcast(build.like(x, 1), x.shape, ()) if result is None else result
    return build.elementwise("Reciprocal", [result]) if exponent < 0 else result


@primitive("square", elementwise=True)
def square(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The square."""
    return build.elementwise("Mul", [x, x])


@primitive("rsqrt", elementwise=True)
def reciprocal_root(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """One by the square root."""
    return build.elementwise("Reciprocal", [build.elementwise("Sqrt", [x])])


@primitive("cbrt", elementwise=True)
def cube_root(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The cube root, negative for negative numbers."""

    def root(x: Tensor) -> Tensor:
        start = build.elementwise("Pow", [build.elementwise("Abs", [x]), build.like(x, 1 / 3)])
        return build.elementwise("Mul", [build.elementwise("Sign", [x]), start])

    return _in_single(build, x, root)


@primitive("sign", elementwise=True)
def sign(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The sign; that of NaN is NaN."""
    result = build.elementwise("Sign", [x])
    if x.dtype.kind in "biu":
        return result
    return build.elementwise("Where", [build.elementwise("IsNaN", [x], bool), x, result])


@primitive("is_finite", elementwise=True)
def is_finite(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Returns whether a number is neither infinite nor NaN: its difference to itself is zero."""
    difference = build.elementwise("Sub", [x, x])
    return build.elementwise("Equal", [difference, build.like(x, 0)], bool)


@primitive("round", elementwise=True)
def rounded(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Rounding, of halves to even or away from zero."""
    if int(eqn.params["rounding_method"]) == int(jax.lax.RoundingMethod.TO_NEAREST_EVEN):
        return build.elementwise("Round", [x])

    def away(x: jax.Array) -> jax.Array:
        # Adding a half first would round up the number before a half, and large odd numbers.
        size = jnp.abs(x)
        whole = jnp.floor(size)
        rounded = jnp.where(size - whole >= 0.5, whole + 1, whole)
        return jnp.where(size == whole, x, jnp.sign(x) * rounded)

    return build.call(away, x)[0]


@primitive("clamp", elementwise=True)
def clamp(build: Builder, eqn: Any, low: Tensor, x: Tensor, high: Tensor) -> Tensor:
    """Limits."""
    return build.elementwise("Min", [build.elementwise("Max", [x, low]), high])


@primitive("select_n", elementwise=True)
def select(build: Builder, eqn: Any, which: Tensor, *cases: Tensor) -> Tensor:
    """One of several values for each element."""
    if len(cases) == 1:
        return cases[0]
    if which.dtype == bool:
        return where(build, which, cases[1], cases[0])
    result = cases[-1]
    for number in range(len(cases) - 2, -1, -1):
        chosen = build.elementwise("LessOrEqual", [which, build.like(which, number)], bool)
        result = where(build, chosen, cases[number], result)
    return result


def where(build: Builder, condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Returns ``yes`` where the condition holds, ``no`` elsewhere; bools by logic, since runtimes lack a kernel."""
    if yes.dtype == bool:
        one = build.elementwise("And", [condition, yes])
        other = build.elementwise("And", [build.elementwise("Not", [condition]), no])
        return build.elementwise("Or", [one, other])
    return build.elementwise("Where", [condition, yes, no])


@primitive("exp2", elementwise=True)
def exp2(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Powers of two."""
    return build.elementwise("Pow", [build.like(x, 2), x])


@primitive("log2", elementwise=True)
def log2(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """Logarithms to base two."""
    factor = 1 / math.log(2)
    return _in_single(
        build, x, lambda x: build.elementwise("Mul", [build.elementwise("Log", [x]), build.like(x, factor)])
    )


def _in_single(build: Builder, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute in float32 what narrower floats have no constants for."""
    return build.cast(compute(build.cast(x, np.float32)), x.dtype) if x.dtype.itemsize < 4 else compute(x)


@primitive("one_minus_square", elementwise=True)
def one_minus_square(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """``1 - x²`` as a product, which loses nothing near one."""
    one = build.like(x, 1)
    return build.elementwise("Mul", [build.elementwise("Sub", [one, x]), build.elementwise("Add", [one, x])])


@primitive("expm1", elementwise=True)
def exp_minus_one(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """``exp(x) - 1``, through tanh near zero, where the difference would lose all digits."""
    half = build.elementwise("Tanh", [build.elementwise("Mul", [x, build.like(x, 0.5)])])
    twice = build.elementwise("Add", [half, half])
    near = build.elementwise("Div", [twice, build.elementwise("Sub", [build.like(x, 1), half])])
    far = build.elementwise("Sub", [build.elementwise("Exp", [x]), build.like(x, 1)])
    small = build.elementwise("Less", [build.elementwise("Abs", [x]), build.like(x, 0.5)], bool)
    return build.elementwise("Where", [small, near, far])


@primitive("log1p", elementwise=True)
def log_plus_one(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """``log(1 + x)``, corrected by what the sum has lost where ``x`` is small."""
    one = build.like(x, 1)
    total = build.elementwise("Add", [x, one])
    log = build.elementwise("Log", [total])
    lost = build.elementwise("Div", [x, build.elementwise("Sub", [total, one])])
    exact = build.elementwise("Mul", [log, lost])
    nothing = build.elementwise("Equal", [total, one], bool)
    near = build.elementwise("Where", [nothing, x, exact])
    small = build.elementwise("Less", [build.elementwise("Abs", [x]), build.like(x, 0.5)], bool)
    return build.elementwise("Where", [small, near, log])


@primitive("erfc", elementwise=True)
def erfc(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """One minus the error function; away from zero by itself, where the difference would lose all digits."""

    def complement(x: Tensor) -> Tensor:
        near = build.elementwise("Sub", [build.like(x, 1), build.elementwise("Erf", [x])])
        far = build.elementwise("Greater", [build.elementwise("Abs", [x]), build.like(x, ERFC_BORDER)], bool)
        return build.elementwise("Where", [far, build.call(_erfc_far, x)[0], near])

    return _in_single(build, x, complement)


ERFC_BORDER = 0.53125


def _erfc_far(x: jax.Array) -> jax.Array:
    """Fitted: ``erfc(s) = t exp(-s² + p(t))`` with ``t = 1 / (1 + s/2)``, to 4e-7 of the value."""
    size = jnp.abs(x)
    t = 1 / (1 + size / 2)
    p = jnp.full_like(t, _ERFC_TAIL[-1])
    for coefficient in _ERFC_TAIL[-2::-1]:
        p = p * t + coefficient
    # The square of a number with few digits is exact; the exponential would multiply what rounding loses.
    short = jnp.minimum(jnp.round(size * 16) / 16, 16)
    tail = t * jnp.exp(-short * short) * jnp.exp((short - size) * (short + size) + p)
    tail = jnp.where(size > 16, 0 * t, tail)
    return jnp.where(x < 0, 2 - tail, tail)


_ERFC_TAIL = (
    -1.26545578, 0.998650009, 0.388426469, 0.0118851164, 0.129942073, -0.490735048, 0.0876037894, 0.267598006,
    -0.128236323,
)  # fmt: skip


@primitive("erf_inv", elementwise=True)
def inverse_erf(build: Builder, eqn: Any, x: Tensor) -> Tensor:
    """The inverse error function for float32, by the polynomials of Giles, Approximating the erfinv function, 2012."""
    if x.dtype == np.float64:
        raise RefusedError("float64; it is approximated for float32")

    def approximate(value: jax.Array) -> jax.Array:
        wide = value.astype(jnp.float32)
        w = -jnp.log1p(-wide * wide)
        near, far = w - 2.5, jnp.sqrt(w) - 3.0
        p, q = jnp.float32(_CENTRAL[0]), jnp.float32(_TAIL[0])
        for a, b in zip(_CENTRAL[1:], _TAIL[1:]):
            p, q = p * near + a, q * far + b
        inside = jnp.where(w < 5, p, q) * wide
        return jnp.where(jnp.abs(wide) == 1, wide * jnp.inf, inside).astype(value.dtype)

    return build.call(approximate, x)[0]


_CENTRAL = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip


@primitive("atan2", elementwise=True)
def atan2(build: Builder, eqn: Any, y: Tensor, x: Tensor) -> Tensor:
    """The angle of a point, by the arctangent of a quotient that is at most one."""

    def angle(y: jax.Array, x: jax.Array) -> jax.Array:
        ay, ax = jnp.abs(y), jnp.abs(x)
        high = jnp.maximum(ay, ax)
        quotient = jnp.where(high == 0, 0, jnp.minimum(ay, ax) / jnp.where(high == 0, 1, high))
        turn = jnp.where(jnp.isinf(ay) & jnp.isinf(ax), math.pi / 4, jnp.arctan(quotient))
        turn = jnp.where(ay > ax, math.pi / 2 - turn, turn)
        turn = jnp.where((x < 0) | ((x == 0) & (1 / x < 0)), math.pi - turn, turn)
        below = (y < 0) | ((y == 0) & (1 / y < 0))
        return jnp.where(jnp.isnan(x) | jnp.isnan(y), x + y, jnp.where(below, -turn, turn)).astype(x.dtype)

    return build.call(angle, y, x)[0]
