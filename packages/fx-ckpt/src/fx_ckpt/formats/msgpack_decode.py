"""Msgpack, decoded without trust and without copies: arrays stay where they are, as extents.

Every length is compared with the bytes that are left before anything is made of it, and nesting is bounded.
"""

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.errors import unreadable
from fx_ckpt.formats.extents import Extent
from fx_ckpt.tree.dtypes import LONG, TIMES, possible_shape

ARRAY, COMPLEX, SCALAR = 1, 2, 3
"""Extension types."""

CHUNKED = "__msgpack_chunked_array__"
"""The key that marks an array in pieces."""

_MOST_CONTAINERS = 2**20
DEEPEST = 200
"""Containers may be nested this deep."""

_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i",
    0xD3: ">q",
}  # fmt: skip
_LENGTHS = {
    0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xC7: ">B", 0xC8: ">H", 0xC9: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I",
    0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I",
}  # fmt: skip
_FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_HEADS = {code: struct.Struct(text) for code, text in {**_NUMBERS, **_LENGTHS}.items()}


class Decoder:
    """Decodes one value from bytes.

    Args:
      data: the bytes.
      offset: where ``data`` lies in the whole, for extents.
    """

    def __init__(self, data: memoryview, offset: int = 0):
        self._data, self._at, self._offset = data, 0, offset
        self._containers = 0

    def whole(self) -> Any:
        """Returns the only value in the bytes; arrays are `Extent`.

        Raises:
          DamagedDataError: it is cut, changed, hostile, or followed by something.
        """
        try:
            value = self._value(0)
        except RecursionError:
            raise unreadable("containers are nested too deep for this call (recursion).") from None
        if self._at != len(self._data):
            raise unreadable(f"ExtraData: {len(self._data) - self._at} bytes follow the value.")
        return value

    def _value(self, depth: int) -> Any:
        code = self._take(1)[0]
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code < 0x90:
            return self._mapping(code & 0x0F, depth)
        if code < 0xA0:
            return self._list(code & 0x0F, depth)
        if code < 0xC0:
            return self._text(code & 0x1F)
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            return self._unpack(code)
        return self._sized(code, depth)

    def _sized(self, code: int, depth: int) -> Any:
        if code == 0xC1:
            raise unreadable("a byte that msgpack never uses.", got=hex(code))
        length = _FIXED[code] if code in _FIXED else self._unpack(code)
        if code <= 0xC6:
            return bytes(self._take(length))
        if code <= 0xC9 or code in _FIXED:
            return self._extension(length)
        if code <= 0xDB:
            return self._text(length)
        return self._list(length, depth) if code <= 0xDD else self._mapping(length, depth)

    def _take(self, count: int) -> memoryview:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise unreadable("they end too early.", expected=f"{count} bytes more", got=len(taken))
        self._at += count
        return taken

    def _unpack(self, code: int) -> Any:
        head = _HEADS[code]
        return head.unpack(self._take(head.size))[0]

    def _text(self, length: int) -> str:
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise unreadable(f"UnicodeDecodeError: {error.reason}") from None

    def _room(self, count: int, depth: int) -> None:
        # An empty dictionary is one byte here, and a hundred in memory.
        self._containers += 1
        if self._containers > _MOST_CONTAINERS:
            raise unreadable("there are too many containers.", expected=f"≤ {_MOST_CONTAINERS}")
        # Each item takes a byte at least, so that a count beyond the bytes that are left is a lie.
        if count > len(self._data) - self._at:
            raise unreadable("a container has more items than there are bytes.", got=count)
        if depth >= DEEPEST:
            raise unreadable(f"containers are nested more than {DEEPEST} deep (recursion).")

    def _list(self, count: int, depth: int) -> list[Any]:
        self._room(count, depth)
        return [self._value(depth + 1) for _ in range(count)]

    def _mapping(self, count: int, depth: int) -> Any:
        self._room(2 * count, depth)
        mapping: dict[Any, Any] = {}
        for _ in range(count):
            key = self._value(depth + 1)
            if isinstance(key, (list, dict, Extent)):
                raise unreadable("a dictionary has a key that is a container.", got=type(key).__name__)
            if key in mapping:
                raise unreadable("a dictionary has a key twice.", got=repr(key)[:80])
            mapping[key] = self._value(depth + 1)
        return joined(mapping) if CHUNKED in mapping else mapping

    def _extension(self, length: int) -> Any:
        code = self._take(1)[0]
        start = self._at
        inside = Decoder(self._take(length), self._offset + start)
        if code == ARRAY:
            return inside._array()
        if code == SCALAR:
            extent = inside._array()
            if extent.shape != ():
                raise unreadable("a scalar has a shape.", expected=(), got=extent.shape)
            ((offset, size),) = extent.pieces
            at = offset - self._offset
            return np.frombuffer(self._data[at : at + size], extent.dtype)[0]
        if code == COMPLEX:
            parts = inside.whole()
            if not (isinstance(parts, list) and [type(part) for part in parts] == [float, float]):
                raise unreadable("a complex number is not a pair of floats.", got=repr(parts)[:80])
            return complex(*parts)
        raise unreadable("an unknown kind of value.", expected="extension types 1, 2, 3", got=code)

    def _array(self) -> Extent:
        """An array: shape, name of the dtype, and bytes, which are not looked at."""
        if self._take(1)[0] != 0x93:
            raise unreadable("an array is not a triple of shape, dtype and bytes.")
        shape, name = self._value(0), self._value(0)
        code = self._take(1)[0]
        if not (isinstance(shape, list) and isinstance(name, str) and 0xC4 <= code <= 0xC6):
            raise unreadable("an array is not a triple of shape, dtype and bytes.")
        length = self._unpack(code)
        start = self._at
        self._take(length)
        if self._at != len(self._data):
            raise unreadable("an array is not a triple of shape, dtype and bytes: something follows.")
        dtype = dtype_of(name)
        if dtype is None:
            raise unreadable("an array has an unknown dtype.", got=name[:80])
        return _extent(dtype, shape, ((self._offset + start, length),))


def joined(mapping: dict[Any, Any]) -> Extent:
    """Returns an array that was written in pieces.

    Raises:
      DamagedDataError: the pieces do not make up an array.
    """
    shape, pieces = _counted(mapping.get("shape")), _counted(mapping.get("chunks"))
    if not pieces or not all(isinstance(piece, Extent) and len(piece.shape) == 1 for piece in pieces):
        raise unreadable("an array in pieces has pieces that are no flat arrays.")
    dtypes = {piece.dtype for piece in pieces}
    check_shape(shape)
    size = sum(piece.shape[0] for piece in pieces)
    if size != math.prod(shape) or len(dtypes) != 1:
        raise unreadable("the pieces of an array do not make up its shape.", expected=tuple(shape), got=size)
    return _extent(dtypes.pop(), shape, tuple(part for piece in pieces for part in piece.pieces))


def check_shape(shape: Any) -> None:
    """Refuses what is no shape.

    Raises:
      DamagedDataError: too many axes, or sizes that are no natural numbers.
    """
    if not possible_shape(shape):
        raise unreadable("an array has an impossible shape.", got=repr(shape)[:80])


def dtype_of(name: str) -> np.dtype | None:
    """Returns the dtype of that name, if msgpack files may hold it.

    The numbers of C's ``long double`` are in them as this machine has them; other machines have others.
    """
    if name in LONG:
        return np.dtype(name)
    return NUMBERS.get(name) or (np.dtype(name) if TIMES.fullmatch(name) else None)


def map_extents(value: Any, function: Callable[[Extent], Any]) -> Any:
    """Replaces each extent in dictionaries and lists."""
    if isinstance(value, dict):
        return {key: map_extents(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [map_extents(item, function) for item in value]
    return function(value) if isinstance(value, Extent) else value


def _extent(dtype: np.dtype, shape: list[Any], pieces: tuple[tuple[int, int], ...]) -> Extent:
    check_shape(shape)
    expected, got = math.prod(shape) * dtype.itemsize, sum(length for _, length in pieces)
    if expected != got:
        text = f"{expected} bytes for {dtype.name}{tuple(shape)}"
        raise unreadable("an array has another size than its shape says.", expected=text, got=got)
    return Extent(dtype, tuple(shape), pieces)


def _counted(numbered: Any) -> list[Any]:
    if not isinstance(numbered, dict) or any(str(index) not in numbered for index in range(len(numbered))):
        raise unreadable("an array in pieces lacks shape or pieces.")
    return [numbered[str(index)] for index in range(len(numbered))]
