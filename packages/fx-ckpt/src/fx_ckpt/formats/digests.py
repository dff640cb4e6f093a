"""Digests of files: XXH3-128 of each block of 4 MiB, and of these digests together.

Blocks are read and hashed by several threads, at the speed of memory. These digests find damage; they do not stop
an attacker who rewrites files on purpose, who could rewrite the manifest just as well. SHA-256 is slower than disks.
"""

import hashlib
from pathlib import Path
from typing import Any

import xxhash

from fx_ckpt.running.parallel import BLOCK, in_parallel, workers

ALGORITHM = "xxh3-128-4m"
"""What the digests that are written now start with."""


class BlockDigest:
    """The digest of bytes that come in order.

    >>> digest = BlockDigest()
    >>> digest.update(b"some")
    >>> digest.update(b" bytes")
    >>> digest.text() == joined([xxhash.xxh3_128_digest(b"some bytes")])
    True
    """

    def __init__(self) -> None:
        self._finished: list[bytes] = []
        self._current, self._room = xxhash.xxh3_128(), BLOCK

    @property
    def room(self) -> int:
        """Bytes until the end of the current block."""
        return self._room

    def update(self, data: Any) -> None:
        """Takes the next bytes; at most `room` of them."""
        self._current.update(data)
        self._room -= len(data)
        if not self._room:
            self._finished.append(self._current.digest())
            self._current, self._room = xxhash.xxh3_128(), BLOCK

    def text(self) -> str:
        """Returns the digest of everything that came."""
        started = self._room < BLOCK
        return joined([*self._finished, self._current.digest()] if started else self._finished)


def joined(blocks: list[bytes]) -> str:
    """Returns the digest of a file from those of its blocks."""
    return f"{ALGORITHM}:{xxhash.xxh3_128_hexdigest(b''.join(blocks))}"


def digest_file(path: Path) -> str:
    """Returns the digest of a file's content."""
    size = path.stat().st_size
    starts = range(0, size, BLOCK)
    share = -(-len(starts) // workers()) or 1
    parts = [starts[first : first + share] for first in range(0, len(starts), share)]
    return joined([block for part in in_parallel(lambda part: _blocks(path, part), parts) for block in part])


def matches(path: Path, digest: str) -> bool:
    """Returns whether a file has a digest, of an algorithm that was ever written; of an unknown one it has not."""
    if digest.startswith("sha256:"):
        with open(path, "rb", buffering=0) as file:
            return digest == "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    return digest == digest_file(path)


def _blocks(path: Path, starts: range) -> list[bytes]:
    digests: list[bytes] = []
    with open(path, "rb", buffering=0) as file:
        file.seek(starts[0])
        buffer = memoryview(bytearray(BLOCK))
        for _ in starts:
            filled = 0
            while filled < BLOCK and (count := file.readinto(buffer[filled:])):
                filled += count
            digests.append(xxhash.xxh3_128_digest(buffer[:filled]))
    return digests
