"""Digests of files: SHA-256 of a small file, and of a larger one SHA-256 of the SHA-256 of each block of 4 MiB.

Several threads take digests of blocks at once. Both kinds are as hard to forge; the name of the algorithm in front
keeps one from being taken for the other.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BLOCK = 4 * 2**20
"""Bytes that one thread works on at a time."""

WHOLE, BLOCKS = "sha256:", "sha256-4m:"
"""What the two kinds of digests start with."""

_MOST_WORKERS = 8


def digest_file(path: Path) -> str:
    """Returns the digest of a file's content, with the name of the algorithm: ``"sha256:…"``."""
    with open(path, "rb", buffering=0) as file:
        return WHOLE + hashlib.file_digest(file, "sha256").hexdigest()


def digest_by_blocks(path: Path) -> str:
    """Returns the digest of a file by its blocks, ``"sha256-4m:…"``; `digest_file`'s, where it is one block or less."""
    size = path.stat().st_size
    return _by_blocks(path, size) if size > BLOCK else digest_file(path)


def joined(blocks: Iterable[bytes]) -> str:
    """Returns the digest of a file out of the SHA-256 of each of its blocks, in order.

    >>> joined([hashlib.sha256(b"block").digest()])[:14]
    'sha256-4m:41c4'
    """
    return BLOCKS + hashlib.sha256(b"".join(blocks)).hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Returns whether a file has a digest of one of the kinds that are here; of an unknown kind it has none."""
    if digest.startswith(BLOCKS):
        return _by_blocks(path, path.stat().st_size) == digest
    return digest_file(path) == digest


def workers() -> int:
    """Returns how many threads to use: more than eight are not faster than memory and disks."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, usable))


def read_block(path: Path, start: int, into: Any) -> int:
    """Reads bytes of a file from a place on.

    Args:
      path: the file.
      start: the place.
      into: a writable buffer of bytes, to be filled.

    Returns:
      How many bytes there were: fewer than the buffer holds at the end of the file.
    """
    view, filled = memoryview(into), 0
    # Python's own buffer would take the bytes in small pieces.
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while filled < len(view) and (count := file.readinto(view[filled:])):
            filled += count
    return filled


def _by_blocks(path: Path, size: int) -> str:
    def of(start: int) -> bytes:
        block = bytearray(min(BLOCK, size - start))
        return hashlib.sha256(memoryview(block)[: read_block(path, start, block)]).digest()

    with ThreadPoolExecutor(workers(), "fx-digest") as pool:
        return joined(pool.map(of, range(0, size, BLOCK)))
