"""What the operating system offers for durable, atomic writing; weaker where a platform lacks it."""

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["NO_LOCK", "exchange", "flush_directory", "flush_file", "flush_tree", "lock", "unlock"]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_LOCK = -1
"""The handle where the platform or the file system has no locks."""
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def lock(directory: Path) -> int | None:
    """Takes the writer's lock of a directory, or a file; the kernel releases it when the process ends, however it ends.

    Returns:
      A handle for `unlock`, which is `NO_LOCK` where there are no locks; None when another process holds the lock or
      the directory is gone.
    """
    if fcntl is None:
        return NO_LOCK
    try:
        handle = os.open(directory, os.O_RDONLY)
    except FileNotFoundError:
        return None
    mine = False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody may have removed the directory between our two calls; a lock on a removed one protects nothing.
        mine = os.path.samestat(os.fstat(handle), os.stat(directory))
    except (FileNotFoundError, BlockingIOError):
        return None
    except OSError:
        return NO_LOCK
    finally:
        if not mine:
            os.close(handle)
    return handle if mine else None


def unlock(handle: int) -> None:
    """Returns a lock back."""
    if handle != NO_LOCK:
        os.close(handle)


def exchange(a: Path, b: Path) -> bool:
    """Swaps two paths in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0


def flush_tree(directory: Path) -> None:
    """Flushes every file and directory below, and the directory itself, to the disk."""

    def fail(error: OSError) -> None:
        # What cannot be listed cannot be flushed.
        raise error

    for root, _, names in os.walk(directory, topdown=False, onerror=fail):
        for name in names:
            flush_file(Path(root, name))
        flush_directory(Path(root))


def flush_file(path: Path) -> None:
    """Flushes a file's content to the disk."""
    # Windows flushes only what is open for writing.
    _flush(path, os.O_RDONLY if fcntl is not None else os.O_RDWR)


def flush_directory(path: Path) -> None:
    """Flushes a directory's entries to the disk, where the platform has such a thing."""
    if fcntl is not None:
        _flush(path, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
