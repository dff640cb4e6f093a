"""Weights as one file of raw numbers, each array at an aligned offset that an index lists."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.stored_dtypes import NUMBERS

from fx_export.contents import Read, read_file
from fx_export.errors import unreadable_bundle, unsupported_weight

_ALIGNMENT = 64
Weight = tuple[str, np.ndarray]


def named_arrays(variables: Any) -> list[Weight]:
    """Returns the arrays of the variables with their paths, in the order of JAX's leaves.

    Raises:
      ArgumentTypeError: a leaf is no array of numbers.
    """
    return [_named(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)]


def weight_specs(variables: Any) -> list[jax.ShapeDtypeStruct]:
    """Describes the arrays of the variables, in the same order; what is of a weak type stays so.

    Raises:
      ArgumentTypeError: a leaf is no array of numbers.
    """
    leaves = jax.tree.leaves(variables)
    return [
        jax.ShapeDtypeStruct(array.shape, array.dtype, weak_type=_is_weak(leaf))
        for (_, array), leaf in zip(named_arrays(variables), leaves, strict=True)
    ]


class SharedWeights:
    """Arrays with their names; what comes again, as the same object or as the same bytes, is there once."""

    def __init__(self) -> None:
        self.arrays: list[tuple[str, np.ndarray]] = []
        self._places: dict[Any, int] = {}

    def places(self, variables: Any) -> list[int]:
        """Adds what is new of some variables, and returns where each is.

        Raises:
          ArgumentTypeError: a leaf is no array of numbers.
        """
        return [self._place(name, array) for name, array in named_arrays(variables)]

    def _place(self, name: str, array: np.ndarray) -> int:
        key = (array.dtype.name, array.shape, array.tobytes() if array.nbytes < 64 else _digest(array))
        if key not in self._places:
            self._places[key] = len(self.arrays)
            self.arrays.append((name, array))
        return self._places[key]


def write_weights(path: Path, weights: Sequence[Weight]) -> list[dict[str, Any]]:
    """Writes the file and returns its index."""
    index: list[dict[str, Any]] = []
    with open(path, "wb") as file:
        for name, array in weights:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            offset = file.tell()
            index.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": offset})
            file.write(array.tobytes())
    return index


def read_weights(path: Path, index: Any, read: Read = read_file) -> list[np.ndarray]:
    """Reads the arrays of an index, trusting neither it nor the file.

    Args:
      path: the file.
      index: what `write_weights` gave.
      read: gives the bytes of the file.

    Raises:
      BundleError: the index does not fit the file.
    """
    if not isinstance(index, list):
        raise unreadable_bundle(str(path), "the index of the weights is no list.")
    try:
        content = read(path)
    except OSError as error:
        raise unreadable_bundle(str(path), "the weights cannot be read.", got=error) from error
    return [_read(path, content, entry) for entry in index]


def _is_weak(leaf: Any) -> bool:
    """Whether JAX takes the dtype of what such a number is multiplied with: 2.0 times bfloat16 is bfloat16."""
    return type(leaf) in (int, float, complex) or bool(getattr(leaf, "weak_type", False))


def _named(path: Any, leaf: Any) -> Weight:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    dtype = np.dtype(type(leaf)) if isinstance(leaf, (bool, int, float, complex)) else getattr(leaf, "dtype", None)
    if getattr(dtype, "name", None) not in NUMBERS:
        what = type(leaf).__name__ if dtype is None else f"an array of dtype {dtype}"
        raise unsupported_weight(name, what)
    # JAX would cast 64-bit values when they are called with; the file holds what is computed with.
    return name, np.asarray(jnp.asarray(leaf))


def _read(path: Path, content: np.ndarray, entry: Any) -> np.ndarray:
    fields = {"name": str, "dtype": str, "shape": list, "offset": int}
    if not isinstance(entry, Mapping) or {key: type(value) for key, value in entry.items()} != fields:
        raise unreadable_bundle(
            str(path), "an entry of the index lacks name, dtype, shape or offset.", got=str(entry)[:100]
        )
    shape, offset, dtype = entry["shape"], entry["offset"], NUMBERS.get(entry["dtype"])
    problem = None
    if dtype is None or not _is_shape(shape):
        problem = "has an unknown dtype or shape"
    elif offset < 0 or offset + math.prod(shape) * dtype.itemsize > len(content):
        problem = "lies outside of the file"
    if problem or dtype is None:
        raise unreadable_bundle(str(path), f"the weight {entry['name']!r} {problem}.", got=str(entry)[:100])
    count = math.prod(shape)
    return np.frombuffer(content.data, dtype, count, offset).reshape(shape) if count else np.zeros(shape, dtype)


def _is_shape(shape: list[Any]) -> bool:
    # NumPy counts the bytes of an array without elements, too, as if its empty axes were not.
    sizes = len(shape) <= 64 and all(type(size) is int and size >= 0 for size in shape)
    return sizes and math.prod(size or 1 for size in shape) < 2**56


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()
