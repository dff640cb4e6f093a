"""State dictionaries as msgpack bytes, bit-compatible with Flax.

Arrays are extension type 1, a nested msgpack of (shape, dtype name, bytes in C order); complex numbers are type 2,
NumPy scalars type 3. An array above `MAX_CHUNK_SIZE` bytes becomes a dictionary of pieces; msgpack could not hold it.

Reading trusts nothing: lengths, dtypes and shapes are checked against the bytes that are there.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
from fx_core.serialization import from_state_dict, is_serializable, to_state_dict

from fx_ckpt.errors import ROOT, UnsupportedLeafError, class_as_target, unsupported_leaf
from fx_ckpt.formats.msgpack_decode import ARRAY, CHUNKED, COMPLEX, SCALAR, Decoder, dtype_of, map_extents
from fx_ckpt.running.parallel import as_bytes

__all__ = ["MAX_CHUNK_SIZE", "from_bytes", "msgpack_restore", "msgpack_serialize", "to_bytes"]

MAX_CHUNK_SIZE = 2**30
"""Arrays above this many bytes are written in pieces."""


def to_bytes(target: Any) -> bytes:
    """Encodes a tree: its state dictionary as msgpack.

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
    """Decodes a tree that `to_bytes` encoded.

    Args:
      target: a tree of the same structure; its values are replaced.
      encoded_bytes: what `to_bytes` gave.

    Raises:
      DamagedDataError: the bytes are cut, changed, or something else.
      StateDictMismatchError: the target has another structure.
      ArgumentError: the target is a class.

    >>> import fx_ckpt
    >>> fx_ckpt.from_bytes({"step": 0}, fx_ckpt.to_bytes({"step": 3}))
    {'step': 3}
    """
    if isinstance(target, type):
        raise class_as_target(target)
    return from_state_dict(target, msgpack_restore(encoded_bytes))


def msgpack_serialize(pytree: Any, in_place: bool = False) -> bytes:
    """Encodes a state dictionary.

    Args:
      pytree: dictionaries and lists of arrays, numbers, strings, bytes and None.
      in_place: write the entries of dictionaries in their order; otherwise sorted by key, as Flax does.

    Raises:
      UnsupportedLeafError: it holds something that msgpack cannot.

    Example:
      >>> msgpack_restore(msgpack_serialize({"a": 1, "b": None}))
      {'a': 1, 'b': None}
    """
    return b"".join(encoded(pytree, in_order=in_place))


def msgpack_restore(encoded_pytree: bytes) -> Any:
    """Decodes a state dictionary; arrays come back as NumPy arrays, which may be read-only.

    Args:
      encoded_pytree: what `msgpack_serialize` gave.

    Raises:
      DamagedDataError: the bytes are cut, changed, or something else.

    >>> import fx_ckpt
    >>> fx_ckpt.msgpack_restore(fx_ckpt.msgpack_serialize({"step": 3, "losses": [0.5, 0.25]}))
    {'losses': [0.5, 0.25], 'step': 3}
    """
    data = memoryview(encoded_pytree).cast("B").toreadonly()
    return map_extents(Decoder(data).whole(), lambda extent: extent.view(data))


def encoded(tree: Any, in_order: bool = True) -> Iterator[Any]:
    """Returns the bytes of `msgpack_serialize`, piece by piece; the large pieces are the memory of the arrays
    themselves.

    Raises:
      UnsupportedLeafError: it holds something that msgpack cannot.
    """
    # Nothing of JAX is waited for until its bytes are asked for.
    packer = msgpack.Packer(default=_unsupported, strict_types=True, autoreset=True)
    try:
        yield from _encoded(tree if in_order else _sorted(tree), packer, "")
    except UnsupportedLeafError:
        raise
    except TypeError as error:  # keys that have no order
        raise unsupported_leaf("", str(error), "Call to_state_dict on the tree first, or use in_place=True.") from error
    except RecursionError as error:
        raise unsupported_leaf("", str(error), "Look for a container that holds itself.") from error


def _sorted(tree: Any) -> Any:
    if type(tree) is dict:
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    return [_sorted(item) for item in tree] if type(tree) is list else tree


def _encoded(tree: Any, packer: msgpack.Packer, path: str) -> Iterator[Any]:
    if type(tree) is dict:
        yield packer.pack_map_header(len(tree))
        for key, value in tree.items():
            inner = f"{path}/{key}"
            yield _packed(key, packer, f"the key of {inner}")
            yield from _encoded(value, packer, inner)
    elif type(tree) is list:
        yield packer.pack_array_header(len(tree))
        for index, value in enumerate(tree):
            yield from _encoded(value, packer, f"{path}/{index}")
    elif isinstance(tree, (jax.Array, np.ndarray)):
        array = _numpy(tree, path)
        yield from _pieces(array, packer, path) if array.nbytes > MAX_CHUNK_SIZE else _extension(ARRAY, array, packer)
    elif isinstance(tree, np.generic):
        yield from _extension(SCALAR, _numpy(np.asarray(tree), path), packer)
    elif isinstance(tree, complex):
        yield packer.pack(msgpack.ExtType(COMPLEX, msgpack.packb((tree.real, tree.imag))))
    else:
        yield _packed(tree, packer, path)


def _packed(value: Any, packer: msgpack.Packer, path: str) -> Any:
    try:
        return packer.pack(value)
    except UnsupportedLeafError as error:
        raise error.locate(path or ROOT) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise unsupported_leaf(path, str(error)) from error


def _unsupported(value: Any) -> Any:
    if type(value) is int:
        raise unsupported_leaf("", f"{value}, an integer beyond 64 bits", "Store it as a string.")
    got = f"{value!r:.200} of type {type(value).__name__}"
    if is_serializable(value):
        raise unsupported_leaf("", got, "Call to_state_dict on the tree first.")
    raise unsupported_leaf("", got)


def _numpy(value: Any, path: str) -> np.ndarray:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        fix = "Use fx_ckpt.save, which stores keys, or jax.random.key_data."
        raise unsupported_leaf(path, f"a typed PRNG key array {value.dtype}{value.shape}", fix)
    if isinstance(value, np.ma.MaskedArray):
        # `np.asarray` drops the mask, and what it hides would come back as numbers.
        raise unsupported_leaf(path, f"a masked array of dtype {value.dtype}", "Store value.data and value.mask.")
    array = np.asarray(value)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if dtype_of(array.dtype.name) != array.dtype:
        fix = "Make it an array of numbers or booleans; store texts as strings, in a list."
        raise unsupported_leaf(path, f"a NumPy array of dtype {array.dtype}", fix)
    return array


def _extension(code: int, array: np.ndarray, packer: msgpack.Packer) -> Iterator[Any]:
    head = b"\x93" + packer.pack(list(array.shape)) + packer.pack(array.dtype.name) + _head(array.nbytes, "binary")
    yield _head(len(head) + array.nbytes, "extension") + bytes([code]) + head
    yield as_bytes(array)


def _head(size: int, kind: str) -> bytes:
    """The bytes in front of a binary or an extension of that size."""
    codes = {"binary": (0xC4, 0xC5, 0xC6), "extension": (0xC7, 0xC8, 0xC9)}[kind]
    if kind == "extension" and size in (1, 2, 4, 8, 16):
        return bytes([0xD4 + size.bit_length() - 1])
    width = 0 if size < 2**8 else 1 if size < 2**16 else 2
    return bytes([codes[width]]) + size.to_bytes(2**width, "big")


def _pieces(array: np.ndarray, packer: msgpack.Packer, path: str) -> Iterator[Any]:
    flat = np.ascontiguousarray(array).reshape(-1)
    length = max(1, MAX_CHUNK_SIZE // array.itemsize)
    pieces = {str(index): flat[start : start + length] for index, start in enumerate(range(0, flat.size, length))}
    shape = {str(index): size for index, size in enumerate(array.shape)}
    yield from _encoded({CHUNKED: True, "shape": shape, "chunks": pieces}, packer, path)
