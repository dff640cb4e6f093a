"""The safetensors backend: arrays that many programs read; one file, or the layout of Hugging Face for large trees."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fx_ckpt.backends.layout import Names, assemble, escaped, lay_out
from fx_ckpt.errors import invalid_structure, unreadable
from fx_ckpt.formats.extents import Extent, map_arrays, read_arrays
from fx_ckpt.formats.safetensors_file import has_dtype
from fx_ckpt.formats.safetensors_shards import read_headers, write_shards
from fx_ckpt.running.parallel import as_bytes

_LAYOUT = "fx.layout"


class SafetensorsBackend:
    """Stores a state dictionary as safetensors.

    Names of arrays are those of the state, joined by dots. What the format lacks is declared in the metadata of the
    file, under ``fx.layout``: Python values, empty containers and arrays, and the dtype of arrays that are stored as
    bytes (int4, fp4, some fp8, complex).
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> Mapping[str, str]:
        """Writes one file, or several with an index, into the directory."""
        arrays: dict[str, Any] = {}
        layout = lay_out(state, lambda names, array: arrays.update({_name(names): storable(array)}))
        return write_shards(directory, arrays, {_LAYOUT: json.dumps(layout)})

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Reads the state; arrays come back as NumPy arrays, which the caller places where ``like`` says.

        Raises:
          DamagedDataError: the files are not what `save` wrote.
          DamagedDataError: nor is what they say of the state.
        """
        return self._restore(directory, like, read_arrays)

    def restore_mapped(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As `restore`, but the arrays stay in the file, read-only."""
        return self._restore(directory, like, map_arrays)

    def _restore(self, directory: Path, like: Any, fetch: Any) -> dict[str, Any]:
        # Links that lead out were refused when the files were compared with the manifest.
        headers, metadata = read_headers(directory, follow_links=True)
        try:
            layout = json.loads(metadata[_LAYOUT])
        except (KeyError, ValueError, RecursionError) as error:
            raise invalid_structure("the metadata has no layout", error) from None
        if not isinstance(layout, dict):
            raise invalid_structure("the layout is no dictionary", layout)
        wanted: list[tuple[Path, Extent]] = []
        assemble(layout, like, lambda *array: wanted.append(_extent(headers, *array)))
        arrays = iter(_read(wanted, fetch))
        return assemble(layout, like, lambda *_: next(arrays))


def storable(array: Any) -> Any:
    """Returns the array as the format has it: of an unknown dtype its bytes, with the size of an item as the
    last axis.
    """
    if has_dtype(array.dtype.name):
        return array
    array = np.asarray(array)
    shape = array.shape if array.dtype.itemsize == 1 else (*array.shape, array.dtype.itemsize)
    return as_bytes(array).reshape(shape)


def _name(names: Names) -> str:
    name = ".".join(map(escaped, names))
    return name.replace("_", "%5F", 1) if name == "__metadata__" else name


def _extent(
    headers: Mapping[str, tuple[Path, Extent]], names: Names, dtype: np.dtype, shape: tuple[int, ...]
) -> tuple[Path, Extent]:
    name = _name(names)
    if name not in headers:
        raise unreadable("an array is missing.", expected=name[:200])
    path, stored = headers[name]
    as_bytes = (*shape, dtype.itemsize) if dtype.itemsize > 1 else shape
    expected = (dtype, shape) if has_dtype(dtype.name) else (np.dtype(np.uint8), as_bytes)
    if (stored.dtype, stored.shape) != expected:
        raise unreadable(
            f"{name[:80]!r} is not the declared array.", expected=expected, got=(stored.dtype, stored.shape)
        )
    return path, Extent(dtype, shape, stored.pieces)


def _read(wanted: list[tuple[Path, Extent]], fetch: Any) -> list[np.ndarray]:
    """Read arrays file by file, and give them in the order asked for."""
    by_path: dict[Path, list[int]] = {}
    for index, (path, _) in enumerate(wanted):
        by_path.setdefault(path, []).append(index)
    arrays: dict[int, np.ndarray] = {}
    for path, indices in by_path.items():
        arrays.update(zip(indices, fetch(path, [wanted[index][1] for index in indices])))
    return [arrays[index] for index in range(len(wanted))]
