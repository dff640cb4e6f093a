"""Arrays that lie in a file, and the two ways between them and memory: written on the way through a digest, and read by
several threads straight to where they stay. Neither way makes a copy of an array."""

import contextlib
import dataclasses
import math
import mmap
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from fx_ckpt.errors import unreadable
from fx_ckpt.formats.digests import BlockDigest
from fx_ckpt.running.parallel import BLOCK, aligned_empty, as_bytes, in_parallel

_FLUSHED_AT_ONCE = 64 * 2**20
_PIECE = 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """Where an array is.

    Attributes:
      dtype: its dtype.
      shape: its shape.
      pieces: offset and length in bytes of each of its parts, in order; together as long as the array.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]

    def view(self, data: memoryview) -> np.ndarray:
        """Returns the array as a part of ``data``; a copy only if it lies there in several pieces."""
        parts = [np.frombuffer(data, np.uint8, length, offset) for offset, length in self.pieces if length]
        if not parts:
            return np.zeros(self.shape, self.dtype)
        return (parts[0] if len(parts) == 1 else np.concatenate(parts)).view(self.dtype).reshape(self.shape)


class DigestingFile:
    """A new file that takes the digest of what is written, and sends it to the disk all along.

    The disk works while the next bytes come, so that little is left for the flush at the end.

    Args:
      path: the file, which must not exist.
    """

    def __init__(self, path: Path):
        self._path, self._digest = path, BlockDigest()
        self._unflushed = 0
        self._flushing: threading.Thread | None = None
        self._error: list[OSError] = []

    def __enter__(self) -> Self:
        self._file = open(self._path, "xb", buffering=0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._wait()
            if kind is None:
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    @property
    def digest(self) -> str:
        """The digest of everything written so far."""
        return self._digest.text()

    def write(self, data: Any) -> None:
        """Writes bytes, or an array of them."""
        rest = memoryview(data)
        while len(rest):
            # Hashed in pieces that stay in the cache until the system copies them.
            piece = rest[: min(_PIECE, self._digest.room)]
            self._digest.update(piece)
            rest = rest[len(piece) :]
            self._write(piece)

    def _write(self, piece: memoryview) -> None:
        self._unflushed += len(piece)
        while len(piece):
            piece = piece[self._file.write(piece) :]
        if self._unflushed >= _FLUSHED_AT_ONCE and (self._flushing is None or not self._flushing.is_alive()):
            self._wait()
            self._unflushed = 0
            self._flushing = threading.Thread(target=self._flush, name="fx-ckpt-flush", daemon=True)
            self._flushing.start()

    def _flush(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            self._error.append(error)

    def _wait(self) -> None:
        if self._flushing is not None:
            self._flushing.join()
            self._flushing = None
        # The system tells of a failed write-back once: the flush at the end would not know of it.
        if self._error:
            raise self._error[0]


class MappedFile:
    """A file as memory, for looking at what is not an array; on leaving, no view of it may be left.

    Raises:
      DamagedDataError: the file is empty.
    """

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> memoryview:
        with open(self._path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise unreadable("the file is empty.", got=self._path.name)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        return self._view

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._view.release()
        # The frames of an error may still look at it; then the mapping goes with them.
        with contextlib.suppress(BufferError):
            self._map.close()


def read_arrays(path: Path, extents: Sequence[Extent]) -> list[np.ndarray]:
    """Reads arrays from a file, by several threads, into memory that JAX takes over without a copy.

    Raises:
      DamagedDataError: the file is shorter than the extents say.
    """
    arrays = [aligned_empty(extent.shape, extent.dtype) for extent in extents]
    jobs = [job for extent, array in zip(extents, arrays) for job in _jobs(extent, as_bytes(array))]

    def read(some: Sequence[tuple[int, np.ndarray]]) -> None:
        with open(path, "rb", buffering=0) as file:
            for offset, target in some:
                _read_into(file, offset, target.data)

    in_parallel(read, _batches(jobs))
    return arrays


def map_arrays(path: Path, extents: Sequence[Extent]) -> list[np.ndarray]:
    """Returns arrays that are read from the file when they are used; read-only, and the mapping lives as long
    as they.
    """
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return [extent.view(data) for extent in extents]


def _jobs(extent: Extent, target: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    assert sum(length for _, length in extent.pieces) == math.prod(extent.shape) * extent.dtype.itemsize
    done = 0
    for offset, length in extent.pieces:
        for start in range(0, length, BLOCK):
            size = min(BLOCK, length - start)
            yield offset + start, target[done + start : done + start + size]
        done += length


def _batches(jobs: Sequence[tuple[int, np.ndarray]]) -> list[list[tuple[int, np.ndarray]]]:
    """Put small pieces together until a thread has enough to do."""
    batches: list[list[tuple[int, np.ndarray]]] = []
    size = BLOCK
    for job in jobs:
        if size >= BLOCK:
            batches.append([])
            size = 0
        batches[-1].append(job)
        size += job[1].nbytes
    return batches


def _read_into(file: Any, offset: int, target: memoryview) -> None:
    file.seek(offset)
    while len(target):
        count = file.readinto(target)
        if not count:
            raise unreadable("the file ends too early.", got=f"{offset} bytes and what follows")
        target = target[count:]
