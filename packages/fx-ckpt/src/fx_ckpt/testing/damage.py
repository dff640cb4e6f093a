"""Finished checkpoints, damaged: bytes flipped, files cut, extended, removed, added, swapped."""

import contextlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fx_core.errors.files import DamagedFilesError, ManifestError
from fx_core.files import MANIFEST

from fx_ckpt.operations import restore, save, verify

__all__ = ["added_files", "cut_files", "flipped_bytes", "removed_files", "swapped_files"]

_NOTICED = (DamagedFilesError, ManifestError)


def flipped_bytes(path: Path, every: int = 1, seed: int = 0) -> int:
    """Changes one byte at a time, each to a random other value; gives how many were changed, and all were noticed.

    Args:
      path: a checkpoint; it is whole again afterwards.
      every: take every n-th byte only.
      seed: of the randomness.

    Raises:
      AssertionError: `restore` or `verify` did not raise, or did not name the file.
    """
    chance, count = random.Random(seed), 0
    for name in _files(path):
        with _kept(path / name) as whole, open(path / name, "r+b", buffering=0) as file:
            for position in range(0, len(whole), every):
                os.pwrite(file.fileno(), bytes([whole[position] ^ chance.randrange(1, 256)]), position)
                _check(path, name, f"byte {position}")
                os.pwrite(file.fileno(), whole[position : position + 1], position)
                count += 1
    verify(path)
    return count


def cut_files(path: Path, every: int = 1) -> int:
    """Cuts each file at each length, and extends it; gives how often, and each was noticed."""
    count = 0
    for name in _files(path):
        with _kept(path / name) as whole:
            for length in range(0, len(whole), every):
                (path / name).write_bytes(whole[:length])
                _check(path, name, f"cut to {length} bytes")
                count += 1
            for more in (b"\0", b"\n", whole):
                if more:
                    (path / name).write_bytes(whole + more)
                    _check(path, name, "extended")
                    count += 1
    verify(path)
    return count


def removed_files(path: Path) -> int:
    """Removes each file, and each directory; gives how many, and each was noticed."""
    names = _files(path)
    for name in names:
        with _kept(path / name):
            (path / name).unlink()
            _check(path, name, "removed")
    folders = [Path(root) for root, _, _ in os.walk(path) if Path(root) != path]
    for folder in folders:
        aside = path.with_name("aside")
        os.rename(folder, aside)
        _check(path, folder.relative_to(path).as_posix(), "directory removed")
        os.rename(aside, folder)
    verify(path)
    return len(names) + len(folders)


def added_files(path: Path) -> int:
    """Adds a file and links of each kind to each directory; gives how many, and each was noticed."""
    count = 0
    for folder in [Path(root) for root, _, _ in os.walk(path)]:
        new = folder / "added"
        for add in (new.touch, lambda new=new: new.symlink_to("/etc"), lambda new=new: os.mkfifo(new)):
            add()
            _check(path, "added", "added")
            new.unlink()
            count += 1
    verify(path)
    return count


def swapped_files(path: Path, other: Path) -> int:
    """Puts the content of each file into each other one, of this checkpoint and of another; gives how many.

    All were noticed. Two files with the same content may take each other's place.
    """
    names, count = _files(path), 0
    sources = {**{name: path / name for name in names}, **{f"other {n}": other / n for n in _files(other)}}
    contents = {name: source.read_bytes() for name, source in sources.items()}
    for name in names:
        with _kept(path / name) as whole:
            for source, content in contents.items():
                if content != whole:
                    (path / name).write_bytes(content)
                    # The manifest of another checkpoint is whole; what it lists is not there.
                    named = "data/" if name == source.removeprefix("other ") == MANIFEST else name
                    _check(path, named, f"replaced by {source}")
                    count += 1
    verify(path)
    return count


def every_damage(backend: str, trees: tuple[Any, Any], work: Path, every: int = 1) -> Counter[str]:
    """Damages a checkpoint of the first tree in every way; gives how often each was done, and noticed."""
    path = save(work / "one", trees[0], backend=backend)
    other = save(work / "two", trees[1], backend=backend)
    return Counter(
        {
            "bytes flipped": flipped_bytes(path, every),
            "lengths cut": cut_files(path, every),
            "removed": removed_files(path),
            "added": added_files(path),
            "swapped": swapped_files(path, other),
        }
    )


def _files(path: Path) -> list[str]:
    found = [Path(root, name) for root, _, names in os.walk(path) for name in names]
    return sorted(file.relative_to(path).as_posix() for file in found)


def _check(path: Path, name: str, what: str) -> None:
    for act in (restore, verify):
        error = _error_of(act, path)
        assert error is not None, f"{what} of {name}: {act.__name__} noticed nothing"
        assert name in str(error), f"{what} of {name}: the error does not name it: {error}"


def _error_of(act: Callable[[Path], Any], path: Path) -> Exception | None:
    try:
        act(path)
    except _NOTICED as error:
        return error
    return None


@contextlib.contextmanager
def _kept(file: Path) -> Iterator[bytes]:
    whole = file.read_bytes()
    try:
        yield whole
    finally:
        file.write_bytes(whole)
