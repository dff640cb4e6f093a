"""The msgpack backend: one file that Flax reads too."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fx_ckpt.formats.extents import DigestingFile, Extent, MappedFile, map_arrays, read_arrays
from fx_ckpt.formats.msgpack import encoded
from fx_ckpt.formats.msgpack_decode import Decoder, map_extents

FILE = "state.msgpack"
Fetch = Callable[[Path, Sequence[Extent]], list[np.ndarray]]


class MsgpackBackend:
    """Stores a state dictionary as one msgpack file.

    The bytes are those of `fx_ckpt.msgpack_serialize`; ``flax.serialization.msgpack_restore`` reads them. They go from
    the arrays to the file, and back to where the arrays stay, without a copy between.
    """

    def save(self, directory: Path, state: Mapping[str, Any]) -> Mapping[str, str]:
        """Writes the file into the directory."""
        with DigestingFile(directory / FILE) as file:
            for piece in encoded(dict(state)):
                file.write(piece)
        return {FILE: file.digest}

    def restore(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Reads the file; arrays come back as NumPy arrays, which the caller places where ``like`` says.

        Raises:
          DamagedDataError: the file is not what `save` wrote.
        """
        return _read(directory / FILE, like, read_arrays)

    def restore_mapped(self, directory: Path, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As `restore`, but the arrays stay in the file, read-only."""
        return _read(directory / FILE, like, map_arrays)


def _read(path: Path, like: Any, fetch: Fetch) -> Any:
    with MappedFile(path) as data:
        state = Decoder(data).whole()
    return with_arrays(path, state if like is None else part_of(state, like), fetch)


def part_of(state: Any, like: Any) -> Any:
    """Returns what ``like`` has, too."""
    if not (isinstance(state, Mapping) and isinstance(like, Mapping)):
        return state
    return {key: part_of(value, like[key]) for key, value in state.items() if key in like}


def with_arrays(path: Path, state: Any, fetch: Fetch) -> Any:
    """Puts the arrays of a file in place of their extents."""
    extents: list[Extent] = []
    map_extents(state, extents.append)
    arrays = iter(fetch(path, extents))

    def next_array(_: Extent) -> np.ndarray:
        return next(arrays)

    return map_extents(state, next_array)
