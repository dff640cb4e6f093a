"""Directories that appear whole or not at all, and manifests that notice every changed byte.

What fx writes to disk (checkpoints, inference bundles) are directories. They are written into a hidden sibling, get a
manifest with the size and digest of every file, are flushed to the disk, and are then renamed into place:

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "thing"
>>> with AtomicDirectory(path, format="demo", version=1) as new:
...     _ = (new.directory / "data.bin").write_bytes(b"1234")
...     new.manifest["note"] = "hello"
>>> manifest = read_manifest(path, format="demo", version=1)
>>> verify_files(path, manifest)
>>> manifest["note"], manifest["files"]["data.bin"]["size"]
('hello', 4)
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fx_core import filesystem
from fx_core._canonical_json import canonical_json, sealed
from fx_core.digests import digest_file
from fx_core.errors.checkpoint import AlreadyExistsError
from fx_core.errors.files import ManifestError, StorageError
from fx_core.manifests import (
    MANIFEST,
    check_key,
    files_below,
    foreign,
    read_manifest,
    signature,
    verify_files,
)
from fx_core.paths import local_path

__all__ = [
    "MANIFEST",
    "AtomicDirectory",
    "canonical_json",
    "clean_leftovers",
    "digest_file",
    "files_below",
    "hidden_directory",
    "local_path",
    "make_directory",
    "read_manifest",
    "remove_directory",
    "settled",
    "storing",
    "verify_files",
]

_NEW, _OLD = ".fx-new-", ".fx-old"


class AtomicDirectory:
    """A directory that becomes visible at ``path`` only when everything in it is on the disk.

    Use it as a context manager and write below ``directory``. On leaving without an error, the manifest is added, every
    file and directory is flushed, and the directory is renamed to ``path``. On an error nothing stays behind. A process
    that is killed leaves a hidden sibling, which no reader takes for the real thing and the next writer removes.

    Args:
      path: where the directory is to appear. Missing parents are made; an empty directory there is taken for nothing.
      format: name of the format, checked by `read_manifest`.
      version: version of the format.
      overwrite: replace a directory of this format at ``path``, so that readers see the old or the new one. What is
        not of this format, or has files that its manifest does not know, is never replaced.
      digest: gives the digest of a file, with the name of the algorithm before a colon.
      own: see `fx_core.manifests.foreign`.
      key: signs the manifest, for readers who have the key, too; see `read_manifest`. Digests must then be of an
        algorithm that cannot be forged, such as the default.

    Attributes:
      directory: where to write.
      manifest: what else to store in the manifest; anything JSON can hold.
      digests: digests of files, by relative name, that whoever wrote them has taken on the way; the others are read.

    Raises:
      AlreadyExistsError: there is something at ``path`` and ``overwrite`` is false, or it is not of this format.
      StorageError: the system could not write; so do errors of the body of the context that it is the cause of.
      ArgumentError: the path is the URL of another place, or no name of a file.
      ArgumentTypeError: the key is empty, or no bytes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        format: str,
        version: int,
        overwrite: bool = False,
        digest: Callable[[Path], str] | None = None,
        own: Collection[str] = (),
        key: bytes | None = None,
    ):
        self.path = local_path(path)
        self.overwrite = overwrite
        self.digests: dict[str, str] = {}
        self._digest = digest or digest_file
        check_key(key)
        self._format, self._own, self._key = format, own, key
        self.manifest: dict[str, Any] = {"format": format, "version": version}

    def __enter__(self) -> Self:
        with storing(self.path):
            self.check_free()
            make_directory(self.path.parent)
            clean_leftovers(self.path.parent, self.path.name)
            self.directory, self._lock = _locked_sibling(self.path)
        self._exchanged = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            with storing(self.path):
                if isinstance(error, OSError):
                    raise error
                if kind is None:
                    self._commit()
        finally:
            # After a commit the hidden sibling is gone, or is the directory that was replaced. Nothing of the latter
            # may go before the disk knows of the exchange; if that failed, it is left to the next writer.
            if not self._exchanged:
                shutil.rmtree(self.directory, ignore_errors=True)
            filesystem.unlock(self._lock)

    def check_free(self) -> None:
        """Refuses a path that is taken; entering and leaving do so, too.

        Raises:
          AlreadyExistsError: there is something at ``path`` that is not to be, or may not be, replaced.
        """
        found = foreign(self.path, self._format, self._own)
        if found is not None:
            raise AlreadyExistsError(self.path, found)
        if not self.overwrite and _exists(self.path) and os.listdir(self.path):
            raise AlreadyExistsError(self.path)

    def _commit(self) -> None:
        self.manifest["files"] = {
            name: {
                "size": os.stat(self.directory / name).st_size,
                "digest": self.digests.get(name) or self._digest(self.directory / name),
            }
            for name in sorted(files_below(self.directory))
        }
        if self._key is not None:
            self.manifest["signature"] = signature(self.manifest, self._key)
        (self.directory / MANIFEST).write_bytes(sealed(self.manifest))
        filesystem.flush_tree(self.directory)
        self.check_free()
        if self.overwrite and _exists(self.path):
            self._replace()
        else:
            self._appear()
        filesystem.flush_directory(self.path.parent)
        self._exchanged = False

    def _appear(self) -> None:
        try:
            os.rename(self.directory, self.path)
        except OSError as error:
            # Another writer was faster: its directory has a manifest, so that it cannot be renamed over.
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise AlreadyExistsError(self.path) from None
            raise

    def _replace(self) -> None:
        self._exchanged = True
        if filesystem.exchange(self.directory, self.path):
            return
        self._exchanged = False
        # Without an atomic exchange there is a moment with nothing at `path`; `settled` then finds the old directory.
        old = _old_sibling(self.path)
        os.rename(self.path, old)
        self._appear()
        filesystem.flush_directory(self.path.parent)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Says what could not be written, which an `OSError` of a full disk does not.

    Raises:
      StorageError: in place of an `OSError` that is of none of Python's classes for a reason.
    """
    try:
        yield
    except OSError as error:
        if type(error) is not OSError:
            raise
        raise StorageError(path, error.errno, error.strerror or str(error)) from error


@contextlib.contextmanager
def hidden_directory(path: Path) -> Iterator[Path]:
    """Creates a hidden directory beside ``path``, to write what is then moved there, and removes it in the end.

    What killed processes left of others for this path is removed first; what another process is writing stays.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "thing"
    >>> with hidden_directory(path) as hidden:
    ...     _ = (hidden / "data").write_text("new")
    ...     _ = (hidden / "data").replace(path)
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('new', 1)
    """
    clean_leftovers(path.parent, path.name)
    hidden, lock = _locked_sibling(path)
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        filesystem.unlock(lock)


def settled(path: str | os.PathLike[str]) -> Path:
    """Returns where to read a directory: ``path``, or where an interrupted replacement left the old one."""
    path = local_path(path)
    old = _old_sibling(path)
    return old if not _exists(path) and _is_directory(old) else path


def clean_leftovers(parent: Path, name: str | None = None) -> list[Path]:
    """Removes what killed writers left in ``parent``; what another process is writing right now stays.

    Args:
      parent: a directory.
      name: only leftovers of this path's writers; otherwise all.

    Returns:
      What was removed.
    """
    removed = [path for path in _abandoned(parent, name) if _remove_abandoned(path)]
    for old in [_old_sibling(parent / name)] if name is not None else list(parent.glob(f".*{_OLD}")):
        current = parent / old.name.removeprefix(".").removesuffix(_OLD)
        # Somebody else may be cleaning, too.
        with contextlib.suppress(FileNotFoundError):
            if not _is_directory(old):
                continue
            if not _exists(current):
                os.rename(old, current)
            else:
                filesystem.flush_directory(parent)
                shutil.rmtree(old, ignore_errors=True)
                removed.append(old)
    return removed


def _abandoned(parent: Path, name: str | None) -> list[Path]:
    with os.scandir(parent) as entries:
        found = [entry for entry in entries if entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)]
    names = {entry.path: entry.name.removeprefix(".").partition(_NEW) for entry in found}
    return [Path(path) for path, (owner, mark, _) in names.items() if mark and name in (None, owner)]


def _remove_abandoned(path: Path) -> bool:
    lock = filesystem.lock(path)
    # Where nothing can be locked, nobody knows who still writes: leaving files is the safe side.
    if lock in (None, filesystem.NO_LOCK):
        return False
    try:
        # It may be what a killed writer has replaced, and the disk may not know yet that it was replaced.
        filesystem.flush_directory(path.parent)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        filesystem.unlock(lock)
    return True


def remove_directory(path: Path) -> None:
    """Removes a directory so that no reader sees half of it: it vanishes by one rename, then its files are deleted.

    Of a link to a directory only the link is removed.

    Raises:
      PermissionError: something below may not be deleted; nothing is removed then.
    """
    if path.is_symlink():
        path.unlink()
        filesystem.flush_directory(path.parent)
        return
    for root, _, _ in os.walk(path):
        # Found out before the rename: afterwards it would lie there under a hidden name for ever.
        if not os.access(root, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), root)
    hidden = path.parent / f".{path.name}{_NEW}{secrets.token_hex(4)}"
    os.rename(path, hidden)
    filesystem.flush_directory(path.parent)
    shutil.rmtree(hidden, ignore_errors=True)


def _exists(path: Path) -> bool:
    # `os.path.lexists` takes any error for absence: on a broken disk that would send a writer the wrong way.
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _old_sibling(path: Path) -> Path:
    # No `with_name`, which the root of a file system refuses, as it has no name.
    return path.parent / f".{path.name}{_OLD}"


def make_directory(path: Path) -> None:
    """Creates a directory that may be there, with its parents, so that the disk knows of each.

    Raises:
      AlreadyExistsError: it, or one of its parents, is a file.
    """
    missing = [p for p in [path, *path.parents] if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        taken = next(p for p in [path, *path.parents] if _exists(p))
        found = f"a symbolic link to {os.readlink(taken)}" if taken.is_symlink() else "a file"
        raise AlreadyExistsError(taken, f"{found}, where a directory is to be") from None
    for made in missing:
        filesystem.flush_directory(made.parent)


def _locked_sibling(path: Path) -> tuple[Path, int]:
    for _ in range(100):
        directory = path.parent / f".{path.name}{_NEW}{secrets.token_hex(4)}"
        directory.mkdir()
        lock = filesystem.lock(directory)
        if lock is not None:
            return directory, lock
    raise ManifestError(path, "Cannot lock a new directory here.", fix="Use a file system that supports locks.")
