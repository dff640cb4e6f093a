"""Reading a directory as a whole that other processes may replace meanwhile, see `fx_core.files.AtomicDirectory`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fx_core.errors import FxError
from fx_core.errors.files import ManifestError
from fx_core.files import MANIFEST, settled

T = TypeVar("T")

_PATIENCE = 20


def read_whole(path: str | os.PathLike[str], what: str, read: Callable[[Path], T]) -> T:
    """Reads something of one directory: again, where another took its place meanwhile.

    Args:
      path: the directory.
      what: it is, for the error.
      read: called with the path to read at, once or several times.

    Returns:
      What ``read`` returns.

    Raises:
      ManifestError: it was replaced each time.
      FxError: what ``read`` raises, of a directory that was not replaced.
      OSError: the same.
    """
    for _ in range(_PATIENCE):
        source, before = settled(path), _mark(path)
        try:
            result = read(source)
        except (OSError, FxError):
            if _mark(path) in (before, None):
                raise
        else:
            # What was read while it was replaced may be of two directories.
            if _mark(path) in (before, None):
                return result
    raise ManifestError(
        os.fspath(path), f"The {what} was replaced {_PATIENCE} times while it was read.", fix="Try again."
    )


def _mark(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """What distinguishes the directory at a path from another that takes its place; None if there is none."""
    try:
        status = os.stat(settled(path) / MANIFEST)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size
