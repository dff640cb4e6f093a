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
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fx_core import _filesystem
from fx_core._canonical_json import canonical_json, sealed
from fx_core.errors.files import DamagedFilesError, ManifestError, NotJsonError, PathTakenError

__all__ = [
    "MANIFEST",
    "AtomicDirectory",
    "canonical_json",
    "clean_leftovers",
    "digest_file",
    "files_below",
    "read_manifest",
    "remove_directory",
    "settled",
    "verify_files",
]

MANIFEST = "manifest.json"
"""Name of the manifest in every directory that fx writes."""

# Parsed JSON may take thirty times its size.
_LARGEST_MANIFEST = 64 * 2**20
_NEW, _OLD = ".fx-new-", ".fx-old"
_NO_TRAPS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class AtomicDirectory:
    """A directory that becomes visible at ``path`` only when everything in it is on the disk.

    Use it as a context manager and write below ``directory``. On leaving without an error, the manifest is added, every
    file and directory is flushed, and the directory is renamed to ``path``. On an error nothing stays behind. A process
    that is killed leaves a hidden sibling, which nobody takes for the real thing and the next writer removes.

    Args:
      path: where the directory is to appear. Missing parents are made.
      format: name of the format, checked by `read_manifest`.
      version: version of the format.
      overwrite: replace what is at ``path``, so that readers see the old or the new directory.
      digest: gives the digest of a file, with the name of the algorithm before a colon.

    Attributes:
      directory: where to write.
      manifest: what else to store in the manifest; anything JSON can hold.
      digests: digests of files, by relative name, that whoever wrote them has taken on the way; the others are read.

    Raises:
      PathTakenError: there is something at ``path`` and ``overwrite`` is false.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        format: str,
        version: int,
        overwrite: bool = False,
        digest: Callable[[Path], str] | None = None,
    ):
        self.path = Path(path).absolute()
        self.overwrite = overwrite
        self.digests: dict[str, str] = {}
        self._digest = digest or digest_file
        self.manifest: dict[str, Any] = {"format": format, "version": version}

    def __enter__(self) -> Self:
        self._refuse_taken()
        _make_parents(self.path.parent)
        clean_leftovers(self.path.parent, self.path.name)
        self.directory, self._lock = _locked_sibling(self.path)
        self._exchanged = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            # After a commit the hidden sibling is gone, or is the directory that was replaced. Nothing of the latter
            # may go before the disk knows of the exchange; if that failed, it is left to the next writer.
            if not self._exchanged:
                shutil.rmtree(self.directory, ignore_errors=True)
            _filesystem.unlock(self._lock)

    def _refuse_taken(self) -> None:
        if not self.overwrite and _exists(self.path):
            raise PathTakenError(self.path)

    def _commit(self) -> None:
        self.manifest["files"] = {
            name: {
                "size": os.stat(self.directory / name).st_size,
                "digest": self.digests.get(name) or self._digest(self.directory / name),
            }
            for name in sorted(files_below(self.directory))
        }
        (self.directory / MANIFEST).write_bytes(sealed(self.manifest))
        _filesystem.flush_tree(self.directory)
        self._refuse_taken()
        if _exists(self.path):
            self._replace()
        else:
            self._appear()
        _filesystem.flush_directory(self.path.parent)
        self._exchanged = False

    def _appear(self) -> None:
        try:
            os.rename(self.directory, self.path)
        except OSError as error:
            # Another writer was faster: its directory has a manifest, so that it cannot be renamed over.
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise PathTakenError(self.path) from None
            raise

    def _replace(self) -> None:
        self._exchanged = True
        if _filesystem.exchange(self.directory, self.path):
            return
        self._exchanged = False
        # Without an atomic exchange there is a moment with nothing at `path`; `settled` then finds the old directory.
        old = _old_sibling(self.path)
        os.rename(self.path, old)
        self._appear()
        _filesystem.flush_directory(self.path.parent)
        shutil.rmtree(old, ignore_errors=True)


def settled(path: str | os.PathLike[str]) -> Path:
    """Where to read a directory: ``path``, or where an interrupted replacement left the old one."""
    path = Path(path).absolute()
    old = _old_sibling(path)
    return old if not _exists(path) and _is_directory(old) else path


def clean_leftovers(parent: Path, name: str | None = None) -> list[Path]:
    """Remove what killed writers left in ``parent``; what somebody is writing right now stays.

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
                _filesystem.flush_directory(parent)
                shutil.rmtree(old, ignore_errors=True)
                removed.append(old)
    return removed


def _abandoned(parent: Path, name: str | None) -> list[Path]:
    with os.scandir(parent) as entries:
        found = [entry for entry in entries if entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)]
    names = {entry.path: entry.name.removeprefix(".").partition(_NEW) for entry in found}
    return [Path(path) for path, (owner, mark, _) in names.items() if mark and name in (None, owner)]


def _remove_abandoned(path: Path) -> bool:
    lock = _filesystem.lock(path)
    # Where nothing can be locked, nobody knows who still writes: leaving files is the safe side.
    if lock in (None, _filesystem.NO_LOCK):
        return False
    try:
        # It may be what a killed writer has replaced, and the disk may not know yet that it was replaced.
        _filesystem.flush_directory(path.parent)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        _filesystem.unlock(lock)
    return True


def remove_directory(path: Path) -> None:
    """Remove a directory so that nobody sees half of it: it vanishes by one rename, then its files are deleted."""
    hidden = path.with_name(f".{path.name}{_NEW}{secrets.token_hex(4)}")
    os.rename(path, hidden)
    _filesystem.flush_directory(path.parent)
    shutil.rmtree(hidden, ignore_errors=True)


def read_manifest(directory: Path, *, format: str, version: int) -> dict[str, Any]:
    """Read and check the manifest of a directory that `AtomicDirectory` wrote.

    Args:
      directory: the directory.
      format: the expected format.
      version: the newest version that the caller understands.

    Returns:
      The manifest, without its own digest.

    Raises:
      ManifestError: there is none, it was changed by so much as a byte, or it is of another format or newer version.
    """
    path = Path(directory) / MANIFEST
    manifest = _unsealed(path)
    if manifest.get("format") != format:
        raise ManifestError(path, "This directory holds something else.", expected=format, got=manifest.get("format"))
    if not isinstance(manifest.get("version"), int) or manifest["version"] > version:
        newer = "It was written by a newer fx; upgrade."
        raise ManifestError(
            path, "The format is newer than this fx.", expected=f"≤ {version}", got=manifest.get("version"), fix=newer
        )
    return manifest


def verify_files(
    directory: Path, manifest: Mapping[str, Any], *, matches: Callable[[Path, str], bool] | None = None
) -> None:
    """Compare every file with the manifest.

    Args:
      directory: the directory.
      manifest: what `read_manifest` gave.
      matches: whether a file has a digest; needed where another algorithm than `digest_file`'s was used.

    Raises:
      DamagedFilesError: a file is changed, cut, missing, added, or is not a regular file; it lists all of them.
    """
    declared: Mapping[str, Mapping[str, Any]] = manifest["files"]
    try:
        present = set(files_below(directory))
    except OSError as error:
        raise DamagedFilesError(directory, [f"{error.filename}: {error.strerror}"]) from error
    problems = [f"{name}: missing" for name in sorted(declared.keys() - present)]
    problems += [f"{name}: not in the manifest" for name in sorted(present - declared.keys())]
    for name in sorted(declared.keys() & present):
        problem = _compare(directory / name, declared[name], matches or _matches)
        if problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise DamagedFilesError(directory, problems)


def digest_file(path: Path) -> str:
    """The digest of a file's content, with the name of the algorithm: ``"sha256:…"``."""
    with open(path, "rb", buffering=0) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def files_below(directory: Path) -> Iterator[str]:
    """Names of all files below a directory but the manifest, relative, with ``/``; links are not followed.

    Raises:
      OSError: a directory cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(directory, onerror=fail):
        inside = Path(root).relative_to(directory)
        links = [f for f in folders if os.path.islink(os.path.join(root, f))]
        for name in [*names, *links]:
            relative = (inside / name).as_posix()
            if relative != MANIFEST:
                yield relative


def _unsealed(path: Path) -> dict[str, Any]:
    try:
        stored = _read_regular(path, _LARGEST_MANIFEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(path, "There is no manifest here.", fix="Check the path.") from None
    if stored is None:
        raise ManifestError(path, "The manifest is not a regular file.")
    if len(stored) > _LARGEST_MANIFEST:
        raise ManifestError(path, "The manifest is too large.", expected=f"≤ {_LARGEST_MANIFEST} bytes")
    try:
        manifest = json.loads(stored)
        rest = {key: value for key, value in manifest.items() if key != "digest"}
        intact = sealed(rest) == stored
    except (ValueError, RecursionError, AttributeError, NotJsonError):
        intact, rest = False, {}
    if not intact or not _lists_files(rest.get("files")):
        raise ManifestError(path, "The manifest is damaged: it does not match its own digest.")
    outside = [name for name in rest["files"] if not _is_inside(name)]
    if outside:
        raise ManifestError(path, "The manifest names files outside of its directory.", got=outside[:3])
    return rest


def _read_regular(path: Path, most: int) -> bytes | None:
    # A link could lead anywhere, and opening a pipe would wait for somebody to write into it.
    handle = os.open(path, os.O_RDONLY | _NO_TRAPS) if not path.is_symlink() else -1
    if handle == -1:
        return None
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        # Python makes room for as much as is asked for.
        return file.read(min(most, status.st_size)) if _is_plain(status) else None


def _is_plain(status: os.stat_result) -> bool:
    # A file with a second name could be changed, or belong to somebody, elsewhere.
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _lists_files(files: Any) -> bool:
    return isinstance(files, dict) and all(
        isinstance(f, dict) and type(f.get("size")) is int and type(f.get("digest")) is str for f in files.values()
    )


def _is_inside(name: str) -> bool:
    return "\0" not in name and "\\" not in name and not {"", ".", ".."} & set(name.split("/")) and name != MANIFEST


def _compare(path: Path, declared: Mapping[str, Any], matches: Callable[[Path, str], bool]) -> str | None:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if status.st_nlink != 1:
            return f"a hard link: the file has {status.st_nlink} names"
        if status.st_size != declared["size"]:
            return f"{status.st_size} bytes, {declared['size']} were written"
        return None if matches(path, declared["digest"]) else "the content has changed"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _exists(path: Path) -> bool:
    # `os.path.lexists` takes any error for absence: on a broken disk that would send a writer the wrong way.
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _matches(path: Path, digest: str) -> bool:
    return digest_file(path) == digest


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _old_sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}{_OLD}")


def _make_parents(parent: Path) -> None:
    missing = [p for p in [parent, *parent.parents] if not p.exists()]
    parent.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _filesystem.flush_directory(made.parent)


def _locked_sibling(path: Path) -> tuple[Path, int]:
    for _ in range(100):
        directory = path.with_name(f".{path.name}{_NEW}{secrets.token_hex(4)}")
        directory.mkdir()
        lock = _filesystem.lock(directory)
        if lock is not None:
            return directory, lock
    raise ManifestError(path, "Cannot lock a new directory here.", fix="Use a file system that supports locks.")
