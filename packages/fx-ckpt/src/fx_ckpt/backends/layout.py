"""State dictionaries as JSON and arrays, for formats that hold nothing but arrays.

The JSON says everything but the numbers in arrays: containers, Python values, dtypes and shapes.
"""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import jax
import numpy as np
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.errors import invalid_structure, unsupported_leaf
from fx_ckpt.tree.dtypes import possible_shape
from fx_ckpt.tree.structure import DEEPEST

Names = tuple[str, ...]


def lay_out(value: Any, visit: Callable[[Names, Any], None], names: Names = ()) -> Any:
    """Describes a value as JSON; ``visit`` is called with the names and value of each array that has elements.

    Raises:
      UnsupportedLeafError: it holds something else than states hold.
    """
    if isinstance(value, Mapping):
        return {key: lay_out(item, visit, (*names, key)) for key, item in value.items()}
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        if value.dtype.name not in NUMBERS:
            raise unsupported_leaf("/".join(names), f"an array of dtype {value.dtype}", "Use another dtype.")
        if math.prod(value.shape):
            visit(names, value)
        return ["array", value.dtype.name, list(value.shape)]
    if value is None or type(value) in (bool, int, str):
        return [type(value).__name__, value]
    if type(value) is float:
        return ["float", _hex(value)]
    if type(value) is complex:
        return ["complex", [_hex(value.real), _hex(value.imag)]]
    raise unsupported_leaf("/".join(names), f"an object of type {type(value).__name__}")


def assemble(layout: Any, like: Any, fetch: Callable[[Names, np.dtype, tuple[int, ...]], Any]) -> Any:
    """Returns the state of a layout, or the part of it that ``like`` has, too.

    Args:
      layout: what `lay_out` gave.
      like: the state or a part of it, with anything for leaves; None for everything.
      fetch: gives the array of some names, dtype and shape.

    Raises:
      DamagedDataError: it is not what `lay_out` gave.
    """
    return _assemble(layout, like, fetch, ())


def _assemble(layout: Any, like: Any, fetch: Any, names: Names) -> Any:
    if len(names) > DEEPEST + 1:
        raise invalid_structure(f"it is nested more than {DEEPEST} deep")
    if isinstance(layout, dict):
        part = like if isinstance(like, Mapping) else None
        return {
            key: _assemble(item, None if part is None else part[key], fetch, (*names, key))
            for key, item in layout.items()
            if part is None or key in part
        }
    if not (isinstance(layout, list) and layout):
        raise invalid_structure("a value is not described", layout)
    kind, *rest = layout
    if kind == "array":
        dtype, shape = described(rest)
        return fetch(names, dtype, shape) if math.prod(shape) else np.zeros(shape, dtype)
    return _scalar(kind, rest)


def described(rest: Any) -> tuple[np.dtype, tuple[int, ...]]:
    """Returns the dtype and shape in the description of an array.

    Raises:
      DamagedDataError: they make no sense.
    """
    dtype = NUMBERS.get(rest[0]) if len(rest) == 2 and type(rest[0]) is str else None
    shape = rest[-1] if rest else None
    if dtype is None:
        raise invalid_structure("an array has an unknown dtype", rest[:1])
    if not possible_shape(shape):
        raise invalid_structure("an array has an impossible shape", shape)
    return dtype, tuple(rest[1])


def _scalar(kind: Any, rest: Any) -> Any:
    if len(rest) != 1:
        raise invalid_structure("a value is not described", [kind, *rest])
    value: Any = rest[0]
    try:
        if kind == "float":
            return _from_hex(value)
        if kind == "complex":
            real, imag = map(_from_hex, value)
            return complex(real, imag)
    except (TypeError, ValueError, OverflowError, AttributeError, struct.error):
        raise invalid_structure("a number is not one", value) from None
    if kind in ("NoneType", "bool", "int", "str") and type(value).__name__ == kind:
        return value
    raise invalid_structure("a value is of an unknown kind", kind)


def _hex(value: float) -> str:
    # Which NaN it is, and its sign, `float.hex` does not say.
    return value.hex() if value == value else f"nan:{struct.pack('>d', value).hex()}"


def _from_hex(text: str) -> float:
    if not text.startswith("nan"):
        return float.fromhex(text)
    bits = text.removeprefix("nan").removeprefix(":")
    return struct.unpack(">d", bytes.fromhex(bits))[0] if bits else math.nan


def escaped(name: str) -> str:
    """Returns a name without dots, slashes and what else formats stumble over; never empty.

    >>> escaped("a.b/c"), escaped("kernel_0"), escaped("")
    ('a%2Eb%2Fc', 'kernel_0', '%')
    """
    return quote(name, safe=" ").replace(".", "%2E") or "%"
