"""Manifests: what a directory that fx wrote holds, with the size and digest of every file, under a seal of its own.

`fx_core.files` writes such directories; here they are read, checked, and distinguished from what is not fx's.
"""

import hmac
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fx_core._canonical_json import sealed
from fx_core.digests import has_digest
from fx_core.errors.files import DamagedFilesError, ManifestError
from fx_core.errors.kinds import ArgumentTypeError

MANIFEST = "manifest.json"
"""Name of the manifest in every directory that fx writes."""

# Parsed JSON may take thirty times its size.
_LARGEST_MANIFEST = 64 * 2**20
_NO_TRAPS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_SHOWN, _PATIENCE = 3, 5


def read_manifest(directory: Path, *, format: str, version: int, key: bytes | None = None) -> dict[str, Any]:
    """Reads and checks the manifest of a directory that `AtomicDirectory` wrote.

    Args:
      directory: the directory.
      format: the expected format.
      version: the newest version that the caller understands.
      key: what the manifest was signed with; None accepts any manifest.

    Returns:
      The manifest, without its own digest.

    Raises:
      ManifestError: there is none, it was changed by so much as a byte, is of another format or newer version, or was
        not signed with the key.
      ArgumentTypeError: the key is empty, or no bytes.
    """
    check_key(key)
    path = Path(directory) / MANIFEST
    manifest = _unsealed(path, format)
    if manifest.get("format") != format:
        raise ManifestError(path, "This directory holds something else.", expected=format, got=manifest.get("format"))
    if not isinstance(manifest.get("version"), int) or manifest["version"] > version:
        newer = "It was written by a newer fx; upgrade."
        raise ManifestError(
            path, "The format is newer than this fx.", expected=f"≤ {version}", got=manifest.get("version"), fix=newer
        )
    if key is not None and not _is_signed(manifest, key):
        got = "another signature" if "signature" in manifest else "no signature"
        fix = "Do not use it: it was not written with this key. Or give the key that it was written with."
        raise ManifestError(path, "The manifest was not signed with this key.", got=got, fix=fix)
    return manifest


def check_key(key: bytes | None) -> None:
    """Refuses keys that protect nothing: an empty one is what is left of a variable that was not set.

    Raises:
      ArgumentTypeError: it is empty, or no bytes.

    >>> check_key(b"secret")
    >>> check_key(b"")
    Traceback (most recent call last):
    fx_core.errors.kinds.ArgumentTypeError: A key that signs is bytes, and not empty.
    ...
    """
    if key is not None and not (isinstance(key, bytes) and key):
        got = "an empty key" if isinstance(key, bytes) else type(key).__name__
        fix = "Give the bytes of a secret, such as secrets.token_bytes(32), or None for no signature."
        raise ArgumentTypeError("A key that signs is bytes, and not empty.", got=got, fix=fix)


def signature(manifest: Mapping[str, Any], key: bytes) -> str:
    """Returns the HMAC-SHA256 of a manifest, without its own digest and signature."""
    rest = {name: value for name, value in manifest.items() if name not in ("digest", "signature")}
    return "hmac-sha256:" + hmac.digest(key, sealed(rest), "sha256").hex()


def _is_signed(manifest: Mapping[str, Any], key: bytes) -> bool:
    given = manifest.get("signature")
    return isinstance(given, str) and hmac.compare_digest(given.encode(), signature(manifest, key).encode())


def verify_files(
    directory: Path, manifest: Mapping[str, Any], *, matches: Callable[[Path, str], bool] | None = None
) -> None:
    """Compares every file with the manifest.

    Args:
      directory: the directory.
      manifest: what `read_manifest` gave.
      matches: whether a file has a digest; needed where another algorithm than those of `fx_core.digests` was used.

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
        problem = _compare(directory, name, declared[name], matches or has_digest)
        if problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise DamagedFilesError(directory, problems)


def files_below(directory: Path) -> Iterator[str]:
    """Returns names of all files below a directory but the manifest, relative, with ``/``; links are not followed.

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


def _unsealed(path: Path, format: str) -> dict[str, Any]:
    try:
        stored = _read_regular(path, _LARGEST_MANIFEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestError(
            path,
            "There is no manifest here.",
            expected=f"the file that a directory of the format {format} has",
            got="no such directory" if not path.parent.exists() else "a directory or file without one",
            fix="Check the path.",
        ) from None
    if stored is None:
        raise ManifestError(path, "The manifest is not a regular file.")
    if len(stored) > _LARGEST_MANIFEST:
        raise ManifestError(path, "The manifest is too large.", expected=f"≤ {_LARGEST_MANIFEST} bytes")
    try:
        manifest = json.loads(stored)
        rest = {key: value for key, value in manifest.items() if key != "digest"}
        intact = sealed(rest) == stored
    except (ValueError, RecursionError, AttributeError):
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
    status = os.fstat(handle)
    # Python opens no directory, and says its number in place of its path.
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return None
    with open(handle, "rb") as file:
        # Python makes room for as much as is asked for.
        return file.read(min(most, status.st_size))


def _lists_files(files: Any) -> bool:
    return isinstance(files, dict) and all(
        isinstance(f, dict) and type(f.get("size")) is int and type(f.get("digest")) is str for f in files.values()
    )


def _is_inside(name: str) -> bool:
    return "\0" not in name and "\\" not in name and not {"", ".", ".."} & set(name.split("/")) and name != MANIFEST


def _compare(
    directory: Path, name: str, declared: Mapping[str, Any], matches: Callable[[Path, str], bool]
) -> str | None:
    path = directory / name
    try:
        # A second name does no harm (backups by hard links have one for each file), since the content is compared. A
        # link to another file of this directory neither; one that leads out could open anything, and is not followed.
        if path.is_symlink() and not _inside(path, directory):
            return "a symbolic link that leads out of the directory"
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if status.st_size != declared["size"]:
            return f"{status.st_size} bytes, {declared['size']} were written"
        return None if matches(path, declared["digest"]) else "the content has changed"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _inside(path: Path, directory: Path) -> bool:
    # Unlike `Path.resolve`, this takes links in a circle, which cannot be opened afterwards.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


def foreign(path: Path, format: str, own: Collection[str] = ()) -> str | None:
    """Returns what is at a path that is not a directory of this format, and its files; None if it may be replaced.

    A directory of this format may be damaged, as long as its manifest still says which files are its own. An empty
    directory, or nothing, has nothing to lose.

    Args:
      path: where to look.
      format: the format.
      own: for a path whose name is a proof, too: what such a directory holds beside its manifest, which may then be
        damaged beyond reading.

    >>> foreign(Path("/"), "demo").startswith("a directory that holds ")
    True
    """
    # What others replace meanwhile is looked at again.
    for _ in range(_PATIENCE):
        before = _identity(path)
        found = _foreign(path, format, own) if before is not None else None
        if found is None or _identity(path) == before:
            break
    return found


def _identity(path: Path) -> tuple[int, int, int] | None:
    # Any other error than absence is passed on: on a broken disk it would send a writer the wrong way.
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _foreign(path: Path, format: str, own: Collection[str]) -> str | None:
    try:
        return _described(path, format, own)
    except (FileNotFoundError, NotADirectoryError):
        return "a directory that is being removed"


def _described(path: Path, format: str, own: Collection[str]) -> str | None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"a symbolic link to {os.readlink(path)}"
    if not stat.S_ISDIR(status.st_mode):
        return "a file"
    names = sorted(os.listdir(path))
    if MANIFEST not in names:
        return f"a directory that holds {_some(names)}" if names else None
    files = _own_files(path / MANIFEST, format)
    if files is None:
        return (
            None
            if own and set(names) <= {MANIFEST, *own}
            else f"a directory with a {MANIFEST} that is not one of a {format}, or is damaged"
        )
    others = [name for name in files_below(path) if name not in files]
    return f"a {format} with files that are not its own: {_some(sorted(others))}" if others else None


def _own_files(manifest: Path, format: str) -> set[str] | None:
    stored = _read_regular(manifest, _LARGEST_MANIFEST)
    try:
        read = json.loads(stored or b"")
        return set(read["files"]) if read["format"] == format else None
    except (ValueError, RecursionError, TypeError, KeyError):
        return None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
