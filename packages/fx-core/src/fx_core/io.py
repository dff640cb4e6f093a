"""Files and directories by path or URL, as `flax.io` has them.

A path on this machine is served by the operating system, and a URL such as ``"gs://bucket/run"`` or ``"memory://run"``
by `fsspec <https://filesystem-spec.readthedocs.io>`_, which the extra ``fx-core[remote]`` brings, with the packages
that fsspec names for each kind of place. Checkpoints of fx are written to local disks only: copy them with these
functions.

>>> import tempfile, os
>>> from fx_core import io
>>> path = os.path.join(tempfile.mkdtemp(), "a", "notes")
>>> io.makedirs(os.path.dirname(path))
>>> with io.GFile(path, "w") as file:
...     _ = file.write("hello")
>>> io.exists(path), io.getsize(path), io.listdir(os.path.dirname(path))
(True, 5, ['notes'])
"""

import enum
import glob as local_glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fx_core.errors.checkpoint import AlreadyExistsError
from fx_core.errors.kinds import ArgumentError

__all__ = [
    "BackendMode",
    "GFile",
    "copy",
    "exists",
    "getsize",
    "glob",
    "io_mode",
    "isdir",
    "listdir",
    "makedirs",
    "open_file",
    "override_mode",
    "remove",
    "rename",
    "rmtree",
    "set_mode",
]

AnyPath = str | os.PathLike[str]
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class BackendMode(enum.Enum):
    """Names that programs for Flax give to `set_mode`."""

    DEFAULT = 0
    TF = 1


io_mode = BackendMode.DEFAULT
"""What `set_mode` was given last. The path alone says who serves it, and TensorFlow never does."""


def set_mode(mode: BackendMode) -> None:
    """Accepts a mode of Flax, which has no effect: the path says who serves it."""
    global io_mode
    io_mode = BackendMode(mode)


@contextmanager
def override_mode(mode: BackendMode) -> Iterator[None]:
    """Accepts a mode of Flax for a block; see `set_mode`."""
    before = io_mode
    set_mode(mode)
    try:
        yield
    finally:
        set_mode(before)


def open_file(path: AnyPath, mode: str = "r") -> Any:
    """Opens a file, for use in a ``with`` block.

    Args:
      path: where it is.
      mode: as of Python's `open`.

    Raises:
      ArgumentError: it is a URL, and fsspec or its package for that kind of place is not installed.
      OSError: as of Python's `open`.
    """
    fs, place = _served(path)
    return open(place, mode) if fs is None else fs.open(place, mode)


GFile = open_file


def exists(path: AnyPath) -> bool:
    """Returns whether there is something at a path."""
    fs, place = _served(path)
    return os.path.exists(place) if fs is None else fs.exists(place)


def isdir(path: AnyPath) -> bool:
    """Returns whether a path is a directory."""
    fs, place = _served(path)
    return os.path.isdir(place) if fs is None else fs.isdir(place)


def listdir(path: AnyPath) -> list[str]:
    """Returns the names in a directory, in no particular order.

    Raises:
      OSError: there is no such directory.
    """
    fs, place = _served(path)
    if fs is None:
        return os.listdir(place)
    return [found.rstrip("/").rpartition("/")[2] for found in fs.ls(place, detail=False)]


def makedirs(path: AnyPath) -> None:
    """Creates a directory and those around it, where they are not there yet."""
    fs, place = _served(path)
    if fs is None:
        os.makedirs(place, exist_ok=True)
    else:
        fs.makedirs(place, exist_ok=True)


def glob(pattern: AnyPath) -> list[str]:
    """Returns the paths that match a pattern with ``*``, ``?`` and ``[…]``; URLs for a URL."""
    fs, place = _served(pattern)
    return local_glob.glob(place) if fs is None else [fs.unstrip_protocol(found) for found in fs.glob(place)]


def getsize(path: AnyPath) -> int:
    """Returns the size of a file in bytes.

    Raises:
      OSError: there is no such file.
    """
    fs, place = _served(path)
    return os.path.getsize(place) if fs is None else fs.size(place)


def copy(src: AnyPath, dst: AnyPath, overwrite: bool = False) -> None:
    """Copies a file, from one place to another, too.

    Raises:
      AlreadyExistsError: there is something at ``dst``, and ``overwrite`` is False.
      OSError: there is no file at ``src``.
    """
    if not overwrite and exists(dst):
        raise AlreadyExistsError(dst)
    with open_file(src, "rb") as source, open_file(dst, "wb") as target:
        shutil.copyfileobj(source, target)


def rename(src: AnyPath, dst: AnyPath, overwrite: bool = False) -> None:
    """Moves a file or a directory within its file system.

    Raises:
      AlreadyExistsError: there is something at ``dst``, and ``overwrite`` is False.
      ArgumentError: the places are of two file systems.
      OSError: there is nothing at ``src``.
    """
    if not overwrite and exists(dst):
        raise AlreadyExistsError(dst)
    (fs, place), (other, target) = _served(src), _served(dst)
    if fs is not other:
        raise ArgumentError("Renaming leads to another file system.", path=os.fspath(dst), fix="Use copy, then remove.")
    if fs is None:
        os.replace(place, target)
    else:
        fs.mv(place, target, recursive=fs.isdir(place))


def remove(path: AnyPath) -> None:
    """Removes a file.

    Raises:
      OSError: there is no such file.
    """
    fs, place = _served(path)
    if fs is None:
        os.remove(place)
    else:
        fs.rm_file(place)


def rmtree(path: AnyPath) -> None:
    """Removes a directory with all that is in it.

    Raises:
      OSError: there is no such directory.
    """
    fs, place = _served(path)
    if fs is None:
        shutil.rmtree(place)
    else:
        fs.rm(place, recursive=True)


def _served(path: AnyPath) -> tuple[Any, str]:
    """The file system of fsspec that serves a path, None for this machine's, and the path as it takes it.

    Raises:
      ArgumentError: a package is missing.
    """
    text = os.fspath(path)
    if not _URL.match(text):
        return None, text
    try:
        import fsspec
    except ImportError:
        raise ArgumentError(
            "This is a URL, and fsspec, which opens them, is not installed.",
            path=text,
            fix="pip install 'fx-core[remote]'",
        ) from None
    try:
        return fsspec.core.url_to_fs(text)
    except (ImportError, ValueError) as error:  # the package of that place, or no such place
        raise ArgumentError(f"fsspec cannot open this URL: {error}", path=text, fix="Install what it names.") from error
