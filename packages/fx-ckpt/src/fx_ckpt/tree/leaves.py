"""Leaves, from a live tree to what backends store, and back, without losing a bit."""

import functools
import math
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.compat.jax import weakly_typed
from fx_core.stored_dtypes import NUMBERS
from jax.core import Tracer

from fx_ckpt.errors import CastError, inconsistent_data, unsupported_leaf
from fx_ckpt.tree.dtypes import RAW
from fx_ckpt.tree.structure import Leaf, is_text

_PYTHON = {bool: "bool", int: "int", float: "float", complex: "complex", str: "str", bytes: "bytes", type(None): "none"}
_STORED_AS = {"bool": bool, "float": float, "complex": complex, "str": str, "none": type(None)}
_LARGEST_INT = 2**63
# A memory map is an array whose memory is a file; other subclasses hold more than their bytes, such as a mask.
_NUMPY = (np.ndarray, np.memmap)
_UTF32 = f"utf-32-{'le' if sys.byteorder == 'little' else 'be'}"


def describe(value: Any, path: str) -> Leaf:
    """Returns what a leaf is; `jax.ShapeDtypeStruct` stands for the array it describes.

    Raises:
      UnsupportedLeafError: it cannot be stored exactly.
    """
    kind = _PYTHON.get(type(value))
    if kind is not None:
        return Leaf(kind)
    if isinstance(value, Tracer):
        raise unsupported_leaf(path, "a tracer", "Save outside of jit, grad and vmap.")
    if isinstance(value, (jax.Array, jax.ShapeDtypeStruct)):
        return _describe_jax(value, path)
    if type(value) in _NUMPY or isinstance(value, np.generic):
        origin = "numpy" if type(value) in _NUMPY else "scalar"
        return _describe_numpy(value.dtype, np.shape(value), origin, path)
    raise unsupported_leaf(path, f"an object of type {type(value).__module__}.{type(value).__qualname__}")


def encode(value: Any, path: str) -> tuple[Leaf, Any]:
    """Returns a leaf's description and what a backend is to store for it.

    Raises:
      UnsupportedLeafError: it cannot be stored exactly.
    """
    leaf = describe(value, path)
    if leaf.kind == "key":
        return leaf, jax.random.key_data(value)
    if leaf.kind == "int" and not -_LARGEST_INT <= value < _LARGEST_INT:
        return leaf, hex(value)
    if leaf.kind == "bytes":
        return leaf, np.frombuffer(value, np.uint8)
    if leaf.kind == "str":
        _check_text(value, path)
    if leaf.kind != "array" or leaf.origin == "jax":
        return leaf, value
    if not leaf.raw:
        return leaf, np.asarray(value)
    return leaf, np.frombuffer(_raw_bytes(value), np.uint8)


def decode(leaf: Leaf, stored: Any, path: str, like: Any = None, mapped: bool = False) -> Any:
    """Returns the live leaf for what a backend returned.

    Args:
      leaf: its description.
      stored: what the backend returned.
      path: where in the tree, for errors.
      like: the target's leaf, which decides between JAX and NumPy and says where an array goes; without it the saved
        kind counts, and 64-bit arrays that JAX would cast come back as NumPy arrays.
      mapped: NumPy arrays may be read-only.

    Raises:
      DamagedDataError: the backend returned something else than was saved.
      CastError: the target wants a JAX array of a dtype that JAX would cast.
    """
    if leaf.kind == "key":
        return _decode_key(leaf, stored, path, like)
    if leaf.kind != "array":
        return _decode_python(leaf, stored, path)
    if leaf.raw:
        return _decode_raw(leaf, stored, path)
    _check_array(stored, leaf.dtype, leaf.shape, path)
    origin = _wanted_origin(leaf, like)
    if origin == "jax" and jax.dtypes.canonicalize_dtype(stored.dtype) != stored.dtype:
        if like is not None:
            raise CastError(
                "JAX would cast this array silently.",
                path=path,
                expected=f"{leaf.dtype}, as saved",
                got="a target for a JAX array, with jax_enable_x64 off",
                fix='Enable 64 bits, jax.config.update("jax_enable_x64", True), or put a NumPy array into the target.',
            )
        origin = "numpy"
    if origin == "jax":
        return _placed(stored, leaf, like)
    array = np.asarray(stored)
    if origin == "scalar":
        return array[()]
    return array if array.flags.writeable or mapped else array.copy()


def _raw_bytes(value: Any) -> bytes:
    # NumPy's arrays drop zeros at the end of strings; its scalars keep them.
    if isinstance(value, np.bytes_):
        return bytes(value)
    if isinstance(value, np.str_):
        return "".join(value).encode(_UTF32, "surrogatepass")
    return np.asarray(value).tobytes()


def _describe_jax(value: Any, path: str) -> Leaf:
    shape = tuple(value.shape)
    if isinstance(value, jax.Array) and value.is_deleted():
        raise unsupported_leaf(path, "an array that was deleted or donated", "Save it before it is donated.")
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return Leaf("key", shape=shape, impl=_impl(value, path))
    if value.dtype.name not in NUMBERS:
        raise unsupported_leaf(path, f"an array of dtype {value.dtype}", "Use another dtype.")
    return Leaf("array", value.dtype.name, shape, weak=bool(value.weak_type), sharding=_layout(value))


def _layout(array: Any) -> str:
    """Say how an array lies on several devices."""
    sharding = getattr(array, "sharding", None)
    if not isinstance(array, jax.Array) or len(array.sharding.device_set) == 1:
        return ""
    if isinstance(sharding, jax.sharding.NamedSharding):
        return f"{sharding.spec} on {dict(sharding.mesh.shape)}"
    return str(sharding)[:200]


def _impl(value: Any, path: str) -> str:
    seen: list[Any] = []
    # `key_impl` takes arrays and tracers, not their descriptions.
    jax.eval_shape(lambda keys: seen.append(jax.random.key_impl(keys)), value)
    (impl,) = seen
    if type(impl) is not str:
        raise unsupported_leaf(path, f"PRNG keys of {impl}", "Store jax.random.key_data of them.")
    return impl


def _describe_numpy(dtype: np.dtype, shape: tuple[int, ...], origin: str, path: str) -> Leaf:
    if dtype.isnative and dtype.name in NUMBERS:
        return Leaf("array", dtype.name, shape, origin)
    if dtype.names is None and RAW.fullmatch(dtype.str):
        return Leaf("array", dtype.str, shape, origin, raw=True)
    raise unsupported_leaf(path, f"a NumPy array of dtype {dtype}", "Use numbers, strings or dates.")


def _check_text(text: str, path: str) -> None:
    if not is_text(text):
        raise unsupported_leaf(path, "a string that is no text (it has half of a character)", "Use bytes.")


def _decode_key(leaf: Leaf, stored: Any, path: str, like: Any) -> jax.Array:
    try:
        keys = jax.random.wrap_key_data(jnp.asarray(stored), impl=leaf.impl)
    except (ValueError, TypeError) as error:
        raise inconsistent_data(path, str(leaf), str(error)) from error
    if keys.shape != leaf.shape:
        raise inconsistent_data(path, leaf.shape, keys.shape)
    sharding = _wanted_sharding(like)
    if sharding is None:
        return keys
    if sharding.is_fully_addressable:
        return jax.device_put(keys, sharding)
    # `jax.device_put` takes no keys to devices of other processes, which all have the same numbers here.
    wrap = functools.partial(jax.random.wrap_key_data, impl=leaf.impl)
    return jax.jit(wrap, out_shardings=sharding)(np.asarray(stored))


def _decode_python(leaf: Leaf, stored: Any, path: str) -> Any:
    if leaf.kind == "bytes":
        return np.asarray(_check_array(stored, "uint8", None, path)).tobytes()
    if leaf.kind == "int":
        if type(stored) is str and re.fullmatch("-?0x[0-9a-f]+", stored):
            return int(stored, 16)
        if type(stored) is int:
            return stored
    elif type(stored) is _STORED_AS[leaf.kind]:
        return stored
    raise inconsistent_data(path, str(leaf), f"{type(stored).__name__}")


def _decode_raw(leaf: Leaf, stored: Any, path: str) -> Any:
    content = np.asarray(_check_array(stored, "uint8", None, path)).tobytes()
    if not RAW.fullmatch(leaf.dtype):
        raise inconsistent_data(path, "a dtype of strings, dates or foreign byte order", leaf.dtype[:40])
    dtype = np.dtype(leaf.dtype)
    if leaf.origin == "scalar" and dtype.kind in "SU" and leaf.shape == ():
        return _decode_text(leaf, content, path)
    # Compared before anything is allocated: the shape comes from a file.
    if math.prod(leaf.shape) * dtype.itemsize != len(content):
        raise inconsistent_data(path, str(leaf), f"{len(content)} bytes")
    array = np.frombuffer(content, dtype).reshape(leaf.shape) if content else np.zeros(leaf.shape, dtype)
    return array[()] if leaf.origin == "scalar" else array.copy()


def _decode_text(leaf: Leaf, content: bytes, path: str) -> Any:
    if leaf.dtype[1] == "S":
        return np.bytes_(content)
    try:
        return np.str_(content.decode(f"utf-32-{'be' if leaf.dtype[0] == '>' else 'le'}", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise inconsistent_data(path, str(leaf), error.reason) from None


def _check_array(stored: Any, dtype: str, shape: tuple[int, ...] | None, path: str) -> Any:
    if not isinstance(stored, (np.ndarray, jax.Array)):
        raise inconsistent_data(path, f"an array of {dtype}", type(stored).__name__)
    if stored.dtype.name != dtype or (shape is not None and stored.shape != shape):
        expected = f"{dtype}{list(shape)}" if shape is not None else dtype
        raise inconsistent_data(path, expected, f"{stored.dtype.name}{list(stored.shape)}")
    return stored


def _wanted_origin(leaf: Leaf, like: Any) -> str:
    if isinstance(like, (jax.Array, jax.ShapeDtypeStruct)):
        return "jax"
    if isinstance(like, np.generic):
        return "scalar"
    return "numpy" if isinstance(like, np.ndarray) else leaf.origin


def _wanted_sharding(like: Any) -> Any:
    # An uncommitted array sits on the default device by chance; its place is nobody's wish.
    return getattr(like, "sharding", None) if getattr(like, "committed", True) else None


def _placed(stored: Any, leaf: Leaf, like: Any) -> jax.Array:
    sharding = _wanted_sharding(like)
    if isinstance(stored, jax.Array) and stored.sharding == sharding:
        array = stored  # with pieces in other processes, `jax.device_put` would refuse it
    elif sharding is not None:
        array = jax.device_put(stored, sharding)
    elif isinstance(stored, jax.Array):
        # The backend has placed it, perhaps over several processes.
        array = stored
    else:
        # Unlike `jnp.asarray`, this takes aligned memory of the host over without a copy.
        array = jax.device_put(stored)
    return weakly_typed(array) if leaf.weak and not array.weak_type else array
