"""A file system that fails where a test wants it to.

Everything that Python does below a directory goes through `FaultyFileSystem`: the standard functions are replaced while
the context is open, so that the code under test, third-party code included, needs no changes. It counts the calls,
shows them to an observer, and makes them fail:

>>> import pathlib, tempfile
>>> root = pathlib.Path(tempfile.mkdtemp())
>>> with FaultyFileSystem(root) as system:
...     _ = (root / "a").write_bytes(b"1")
>>> [str(call) for call in system.calls]
['open a', 'write a']
>>> with FaultyFileSystem(root, fail_at(1, no_space())):
...     _ = (root / "b").write_bytes(b"1")
Traceback (most recent call last):
    ...
OSError: [Errno 28] No space left on device: '...b'

What C++ code writes by itself is not seen; `fx_core.testing.disks.RecordedDisk` sees it at the next call.
"""

import builtins
import contextlib
import dataclasses
import errno
import io
import os
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self

from fx_core import filesystem

__all__ = [
    "CHANGES",
    "Call",
    "FaultyFileSystem",
    "fail_at",
    "fail_from",
    "io_error",
    "no_space",
    "not_permitted",
    "read_only",
]

_CREATING = ("open-write", "mkdir", "rename", "replace", "exchange", "link", "symlink")
_REMOVING = ("unlink", "rmdir")
CHANGES = frozenset([*_CREATING, *_REMOVING, "write", "truncate", "fsync"])
"""Kinds of calls that change something, or make it durable; the others are ``open``, ``list`` and ``stat``."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of the file system.

    Attributes:
      index: its number, from 0.
      kind: one of `CHANGES`, ``"open"`` (for reading), ``"list"`` or ``"stat"``.
      path: what it is about, relative to the root.
    """

    index: int
    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.kind.removesuffix('-write')} {self.path}"


Fault = Callable[[Call], BaseException | None]


def no_space(path: str = "") -> OSError:
    """The disk is full."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def io_error(path: str = "") -> OSError:
    """The disk is broken."""
    return OSError(errno.EIO, os.strerror(errno.EIO), path)


def not_permitted(path: str = "") -> OSError:
    """The user may not do this."""
    return OSError(errno.EACCES, os.strerror(errno.EACCES), path)


def read_only(path: str = "") -> OSError:
    """The file system is mounted for reading."""
    return OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def fail_at(index: int, error: BaseException) -> Fault:
    """Fails one call, by its number."""
    return lambda call: error if call.index == index else None


def fail_from(index: int, error: BaseException, kinds: Collection[str] = CHANGES) -> Fault:
    """Fails every call of some kinds from a number on, as a full or a read-only disk does."""
    return lambda call: error if call.index >= index and call.kind in kinds else None


class FaultyFileSystem:
    """Sees the calls below a directory while its context is open, from every thread, and may make them fail.

    Args:
      root: calls about other places are neither counted nor failed.
      fault: gives the error to raise instead of doing a call, or None.
      before: called before each operation; it may end the process, or send it a signal.
      after: called after each operation.

    Attributes:
      calls: what was called, in order.
      failed: the calls that were made to fail.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        fault: Fault | None = None,
        *,
        before: Callable[[Call], None] | None = None,
        after: Callable[[Call], None] | None = None,
    ):
        # `abspath` asks no file system, and is how callers spell the same place.
        self.root = os.path.abspath(root)
        self.calls: list[Call] = []
        self.failed: list[Call] = []
        self._fault, self._before, self._after = fault, before, after
        self._paths: dict[int, str] = {}
        self._lock = threading.RLock()
        self._resting = threading.local()
        self._originals: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Self:
        for name, kind in _ONE_PATH.items():
            self._replace(os, name, self._one_path(getattr(os, name), kind))
        for name, kind in _TWO_PATHS.items():
            self._replace(os, name, self._two_paths(getattr(os, name), kind))
        for name, kind in _HANDLE.items():
            if hasattr(os, name):
                self._replace(os, name, self._handle(getattr(os, name), kind))
        self._replace(os, "open", self._os_open(os.open))
        self._replace(os, "close", self._os_close(os.close))
        self._replace(filesystem, "exchange", self._two_paths(filesystem.exchange, "exchange"))
        opener = self._open(builtins.open)
        self._replace(builtins, "open", opener)
        self._replace(io, "open", opener)
        return self

    def __exit__(self, *_: object) -> None:
        while self._originals:
            setattr(*self._originals.pop())

    def do(self, kind: str, path: str, act: Callable[[], Any]) -> Any:
        """Does what a call is about, unless it is to fail."""
        if getattr(self._resting, "now", False):
            return act()
        with self._lock:
            call = Call(len(self.calls), kind, os.path.relpath(path, self.root))
            self.calls.append(call)
        error = self._fault(call) if self._fault else None
        if error is not None:
            self.failed.append(call)
            # A fresh one each time: an exception keeps the traceback and context of where it was raised.
            raise type(error)(*error.args, path) if isinstance(error, OSError) else error
        with self._rest():
            if self._before:
                self._before(call)
        result = act()
        with self._rest():
            if self._after:
                self._after(call)
        return result

    def inside(self, path: Any, directory: int | None = None) -> str | None:
        """Returns the absolute path of something below the root; None for other places and things."""
        if isinstance(path, int):
            return self._paths.get(path)
        with contextlib.suppress(TypeError, ValueError):
            text = os.fsdecode(path)
            if directory is not None and directory in self._paths:
                text = os.path.join(self._paths[directory], text)
            text = os.path.abspath(text)
            if text == self.root or text.startswith(self.root + os.sep):
                return text
        return None

    @contextlib.contextmanager
    def _rest(self) -> Iterator[None]:
        self._resting.now = True
        try:
            yield
        finally:
            self._resting.now = False

    def _replace(self, module: Any, name: str, new: Any) -> None:
        self._originals.append((module, name, getattr(module, name)))
        setattr(module, name, new)

    def _one_path(self, original: Any, kind: str) -> Any:
        def call(path: Any = ".", *args: Any, dir_fd: int | None = None, **options: Any) -> Any:
            if dir_fd is not None:
                options["dir_fd"] = dir_fd
            where = self.inside(path, dir_fd)
            act = lambda: original(path, *args, **options)  # noqa: E731
            return act() if where is None else self.do(kind, where, act)

        return call

    def _two_paths(self, original: Any, kind: str) -> Any:
        def call(source: Any, target: Any, *args: Any, **options: Any) -> Any:
            where = self.inside(target) or self.inside(source)
            act = lambda: original(source, target, *args, **options)  # noqa: E731
            return act() if where is None else self.do(kind, where, act)

        return call

    def _handle(self, original: Any, kind: str) -> Any:
        def call(handle: Any, *args: Any, **options: Any) -> Any:
            number = handle if isinstance(handle, int) else handle.fileno()
            where = self._paths.get(number)
            act = lambda: original(handle, *args, **options)  # noqa: E731
            return act() if where is None else self.do(kind, where, act)

        return call

    def _os_open(self, original: Any) -> Any:
        def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            options = {} if dir_fd is None else {"dir_fd": dir_fd}
            where = self.inside(path, dir_fd)
            act = lambda: original(path, flags, mode, **options)  # noqa: E731
            if where is None:
                return act()
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            handle = self.do("open-write" if writes else "open", where, act)
            self._paths[handle] = where
            return handle

        return open_

    def _os_close(self, original: Any) -> Any:
        def close(handle: int) -> None:
            self._paths.pop(handle, None)
            original(handle)

        return close

    def _open(self, original: Any) -> Any:
        def open_(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
            where = None if isinstance(file, int) else self.inside(file)
            if where is None:
                return original(file, mode, buffering, *args, **options)
            if not set(mode) & set("wax+"):
                return self.do("open", where, lambda: original(file, mode, buffering, *args, **options))
            raw = self.do("open-write", where, lambda: _File(self, where, mode.translate(_RAW)))
            if buffering == 0:
                return raw
            buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **options)

        return open_


_RAW = str.maketrans("", "", "bt")
_ONE_PATH = {
    "mkdir": "mkdir",
    "unlink": "unlink",
    "remove": "unlink",
    "rmdir": "rmdir",
    "truncate": "truncate",
    "scandir": "list",
    "listdir": "list",
    "stat": "stat",
    "lstat": "stat",
}
_TWO_PATHS = {"rename": "rename", "replace": "replace", "link": "link", "symlink": "symlink"}
_HANDLE = {
    "write": "write",
    "pwrite": "write",
    "writev": "write",
    "pwritev": "write",
    "ftruncate": "truncate",
    "posix_fallocate": "truncate",
    "fsync": "fsync",
    "fdatasync": "fsync",
}


class _File(io.FileIO):
    """A file whose writes are calls, below any buffering."""

    def __init__(self, system: FaultyFileSystem, path: str, mode: str):
        super().__init__(path, mode)
        self._system, self._path = system, path
        system._paths[self.fileno()] = path

    def write(self, data: Any, /) -> int:
        return self._system.do("write", self._path, lambda: super(_File, self).write(data))

    def truncate(self, size: int | None = None, /) -> int:
        return self._system.do("truncate", self._path, lambda: super(_File, self).truncate(size))

    def close(self) -> None:
        if not self.closed:
            self._system._paths.pop(self.fileno(), None)
        super().close()
