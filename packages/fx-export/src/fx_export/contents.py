"""Files in memory, read once by several threads or mapped: what is compared with a digest is what is used."""

import hashlib
import mmap
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from fx_core.digests import BLOCK, BLOCKS, WHOLE, joined, read_block, workers

Read = Callable[[Path], np.ndarray]
"""Gives the bytes of a file; `OSError` where it cannot be read."""


def threads() -> ThreadPoolExecutor:
    """Returns threads that read and hash; a context that waits for them."""
    return ThreadPoolExecutor(workers(), "fx-export-read")


def read_file(path: Path) -> np.ndarray:
    """Returns the bytes of a file.

    Raises:
      OSError: it cannot be read.
    """
    with threads() as pool:
        return Content(path, pool).array()


class Content:
    """The bytes of a file, which are being read or are those of the file itself.

    They start where arrays are aligned as in the file: JAX takes such arrays without a copy.

    Args:
      path: the file.
      pool: the threads that read and hash it, first come, first served.
      mapped: map the file, which no program may write to as long as the bytes are used; it is read where the system
        does not map it.

    Raises:
      OSError: there is no such file.
    """

    def __init__(self, path: Path, pool: ThreadPoolExecutor, *, mapped: bool = False):
        self._pool = pool
        room = _mapping(path) if mapped else None
        if room is None:
            size = path.stat().st_size
            # For large arrays NumPy asks for huge pages: to put them together takes several times as long as to read
            # into those that are there.
            self._room = mmap.mmap(-1, max(size, 1), access=mmap.ACCESS_COPY)
        else:
            size, self._room = len(room), room
        # The arrays keep the mapping for as long as one of them is used.
        self._bytes = np.frombuffer(self._room, np.uint8, size)
        self._blocks = [self._bytes[start : start + BLOCK] for start in range(0, size, BLOCK)]
        unread = enumerate(self._blocks) if room is None else ()
        self._reads = [pool.submit(read_block, path, number * BLOCK, block.data) for number, block in unread]

    def array(self) -> np.ndarray:
        """Returns the bytes when all have been read.

        Raises:
          OSError: a part cannot be read.
        """
        for read in self._reads:
            read.result()
        # From now on the system may put huge pages together when it has time.
        if self._reads and hasattr(mmap, "MADV_HUGEPAGE"):
            self._room.madvise(mmap.MADV_HUGEPAGE)
        return self._bytes

    def has(self, digest: str) -> Callable[[], bool]:
        """Starts to compare the bytes with a digest, and returns what waits for the answer.

        An `OSError` in reading comes out of it. A digest of an unknown kind is none of theirs.
        """
        if digest.startswith(BLOCKS):
            hashed = [self._pool.submit(self._hashed, number) for number in range(len(self._blocks))]
            return lambda: joined(each.result() for each in hashed) == digest
        whole: Future[str] = self._pool.submit(lambda: hashlib.sha256(self.array().data).hexdigest())
        return lambda: WHOLE + whole.result() == digest

    def _hashed(self, number: int) -> bytes:
        # The queue is served in order: whoever is to read this block has begun.
        if self._reads:
            self._reads[number].result()
        return hashlib.sha256(self._blocks[number].data).digest()


def _mapping(path: Path) -> mmap.mmap | None:
    """Map a file read-only; None for an empty one, and where the system maps none, as on some network disks."""
    with open(path, "rb") as file:
        try:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if hasattr(mmap, "MADV_WILLNEED"):
                mapping.madvise(mmap.MADV_WILLNEED)
        except (OSError, ValueError):
            return None
    return mapping
