"""State dictionaries as msgpack bytes, bit-compatible with Flax.

Arrays are extension type 1, a nested msgpack of (shape, dtype name, bytes in C order); complex numbers are type 2,
NumPy scalars type 3. An array above `MAX_CHUNK_SIZE` bytes becomes a dictionary of pieces; msgpack could not hold it.

Reading trusts nothing: lengths, dtypes and shapes are checked against the bytes that are there.
"""

import math
from collections.abc import Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
from fx_core.serialization import from_state_dict, to_state_dict
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.dtypes import TIMES
from fx_ckpt.errors import BytesError, UnsupportedLeafError

__all__ = ["MAX_CHUNK_SIZE", "from_bytes", "msgpack_restore", "msgpack_serialize", "to_bytes"]

MAX_CHUNK_SIZE = 2**30
"""Arrays above this many bytes are written in pieces."""

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"


def to_bytes(target: Any) -> bytes:
    """Encode a tree: its state dictionary as msgpack.

    Args:
      target: any pytree of arrays and numbers.

    Raises:
      UnsupportedLeafError: the tree holds something that msgpack cannot.

    Example:
      >>> from_bytes((0, [0.0]), to_bytes((3, [1.5])))
      (3, [1.5])
    """
    return msgpack_serialize(to_state_dict(target), in_place=True)


def from_bytes(target: Any, encoded_bytes: bytes) -> Any:
    """Decode a tree that `to_bytes` encoded.

    Args:
      target: a tree of the same structure; its values are replaced.
      encoded_bytes: what `to_bytes` gave.

    Raises:
      BytesError: the bytes are cut, changed, or something else.
      StateDictMismatchError: the target has another structure.
    """
    return from_state_dict(target, msgpack_restore(encoded_bytes))


def msgpack_serialize(pytree: Any, in_place: bool = False) -> bytes:
    """Encode a state dictionary.

    Args:
      pytree: dictionaries and lists of arrays, numbers, strings, bytes and None.
      in_place: write the entries of dictionaries in their order; otherwise sorted by key, as Flax does.

    Raises:
      UnsupportedLeafError: it holds something that msgpack cannot.

    Example:
      >>> msgpack_restore(msgpack_serialize({"a": 1, "b": None}))
      {'a': 1, 'b': None}
    """
    try:
        return cast(bytes, msgpack.packb(pytree if in_place else _sorted(pytree), default=_pack, strict_types=True))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, UnsupportedLeafError):
            raise
        raise UnsupportedLeafError("", str(error)) from error


def msgpack_restore(encoded_pytree: bytes) -> Any:
    """Decode a state dictionary; arrays come back as NumPy arrays, which may be read-only.

    Args:
      encoded_pytree: what `msgpack_serialize` gave.

    Raises:
      BytesError: the bytes are cut, changed, or something else.
    """
    try:
        return msgpack.unpackb(
            encoded_pytree, ext_hook=_unpack, object_pairs_hook=_mapping, raw=False, strict_map_key=False
        )
    except BytesError:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException) as error:
        raise BytesError(f"{type(error).__name__}: {error}") from error


def _sorted(tree: Any) -> Any:
    if type(tree) is dict:
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    return [_sorted(item) for item in tree] if type(tree) is list else tree


def _pack(value: Any) -> Any:
    if isinstance(value, (jax.Array, np.ndarray)):
        array = _numpy(value)
        if array.nbytes > MAX_CHUNK_SIZE:
            return _in_pieces(array)
        return msgpack.ExtType(_ARRAY, _pack_array(array))
    if isinstance(value, np.generic):
        return msgpack.ExtType(_SCALAR, _pack_array(_numpy(np.asarray(value))))
    if isinstance(value, complex):
        return msgpack.ExtType(_COMPLEX, msgpack.packb((value.real, value.imag)))
    if type(value) is int:
        raise UnsupportedLeafError("", f"{value}, an integer beyond 64 bits", "Store it as a string.")
    raise UnsupportedLeafError("", f"{value!r} of type {type(value).__name__}", "Call to_state_dict on the tree first.")


def _numpy(value: Any) -> np.ndarray:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        fix = "Use fx_ckpt.save, which stores keys, or jax.random.key_data."
        raise UnsupportedLeafError("", f"a typed PRNG key array {value.dtype}{value.shape}", fix)
    array = np.asarray(value)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if _dtype(array.dtype.name) != array.dtype:
        raise UnsupportedLeafError("", f"a NumPy array of dtype {array.dtype}", "Use another dtype.")
    return array


def _pack_array(array: np.ndarray) -> bytes:
    return cast(bytes, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


def _in_pieces(array: np.ndarray) -> dict[str, Any]:
    flat = array.reshape(-1)
    length = max(1, MAX_CHUNK_SIZE // array.itemsize)
    pieces = (flat[start : start + length] for start in range(0, flat.size, length))
    return {_CHUNKED: True, "shape": _numbered(array.shape), "chunks": _numbered(pieces)}


def _numbered(items: Any) -> dict[str, Any]:
    return {str(index): item for index, item in enumerate(items)}


def _unpack(code: int, data: bytes) -> Any:
    if code == _ARRAY:
        return _unpack_array(data)
    if code == _SCALAR:
        array = _unpack_array(data)
        if array.shape != ():
            raise BytesError("a scalar has a shape.", expected=(), got=array.shape)
        return array[()]
    if code == _COMPLEX:
        parts = msgpack.unpackb(data)
        if not (isinstance(parts, list) and [type(part) for part in parts] == [float, float]):
            raise BytesError("a complex number is not a pair of floats.", got=repr(parts)[:80])
        return complex(*parts)
    raise BytesError("an unknown kind of value.", expected="extension types 1, 2, 3", got=code)


def _unpack_array(data: bytes) -> np.ndarray:
    parts = msgpack.unpackb(data, raw=False)
    if not (isinstance(parts, list) and [type(part) for part in parts] == [list, str, bytes]):
        raise BytesError("an array is not a triple of shape, dtype and bytes.")
    shape, name, content = parts
    dtype = _dtype(name)
    if dtype is None:
        raise BytesError("an array has an unknown dtype.", got=name[:80])
    _check_shape(shape)
    if math.prod(shape) * dtype.itemsize != len(content):
        expected = f"{math.prod(shape) * dtype.itemsize} bytes for {name}{tuple(shape)}"
        raise BytesError("an array has another size than its shape says.", expected=expected, got=len(content))
    return np.frombuffer(content, dtype).reshape(shape) if content else np.zeros(shape, dtype)


def _check_shape(shape: list[Any]) -> None:
    if len(shape) > 64 or not all(type(size) is int and 0 <= size < 2**48 for size in shape):
        raise BytesError("an array has an impossible shape.", got=repr(shape)[:80])


def _dtype(name: str) -> np.dtype | None:
    return NUMBERS.get(name) or (np.dtype(name) if TIMES.fullmatch(name) else None)


def _mapping(pairs: Any) -> Any:
    pairs = list(pairs)
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise BytesError("a dictionary has a key twice.")
    return _joined(mapping) if _CHUNKED in mapping else mapping


def _joined(mapping: dict[str, Any]) -> np.ndarray:
    try:
        shape = list(_counted(mapping["shape"]))
        pieces = list(_counted(mapping["chunks"]))
    except (KeyError, AttributeError):
        raise BytesError("an array in pieces lacks shape or pieces.") from None
    _check_shape(shape)
    if not all(isinstance(piece, np.ndarray) and piece.ndim == 1 for piece in pieces) or not pieces:
        raise BytesError("an array in pieces has pieces that are no flat arrays.")
    size, dtypes = sum(piece.size for piece in pieces), {piece.dtype for piece in pieces}
    if size != math.prod(shape) or len(dtypes) != 1:
        raise BytesError("the pieces of an array do not make up its shape.", expected=tuple(shape), got=size)
    return np.concatenate(pieces).reshape(shape)


def _counted(numbered: dict[str, Any]) -> Iterator[Any]:
    return (numbered[str(index)] for index in range(len(numbered)))
