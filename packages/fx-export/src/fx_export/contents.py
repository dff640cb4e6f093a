"""Files in memory, read once by several threads: what is compared with a digest is what is used."""

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
    """The bytes of a file, which are being read.

    They start where arrays are aligned as in the file: JAX takes such arrays without a copy.

    Args:
      path: the file.
      pool: the threads that read and hash it, first come, first served.

    Raises:
      OSError: there is no such file.
    """

    def __init__(self, path: Path, pool: ThreadPoolExecutor):
        size, self._pool = path.stat().st_size, pool
        # For large arrays NumPy asks for huge pages: to put them together takes several times as long as to read into
        # those that are there.
        self._room = mmap.mmap(-1, max(size, 1), access=mmap.ACCESS_COPY)
        self._bytes = np.frombuffer(self._room, np.uint8, size)
        self._blocks = [self._bytes[start : start + BLOCK] for start in range(0, size, BLOCK)]
        self._reads = [
            pool.submit(read_block, path, number * BLOCK, block.data) for number, block in enumerate(self._blocks)
        ]

    def array(self) -> np.ndarray:
        """Returns the bytes when all have been read.

        Raises:
          OSError: a part cannot be read.
        """
        for read in self._reads:
            read.result()
        # From now on the system may put huge pages together when it has time.
        if hasattr(mmap, "MADV_HUGEPAGE"):
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
        self._reads[number].result()
        return hashlib.sha256(self._blocks[number].data).digest()
