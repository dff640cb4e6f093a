"""What a disk may hold after a crash, given the calls that went before.

A kernel keeps writes in memory and brings them to the disk when it likes, in the order it likes; only `fsync` makes it
certain. `RecordedDisk` watches the calls below a directory and then gives, for every moment, the states that a disk may
be found in: after a killed process (everything the kernel knew), and after a loss of power (what was flushed, and any
part of the rest: new names without their content, content without names, files torn in the middle).

>>> import pathlib, tempfile
>>> root = pathlib.Path(tempfile.mkdtemp())
>>> with RecordedDisk(root) as disk:
...     _ = (root / "a").write_bytes(b"1234")
>>> sorted({str(state.files) for state in disk.power_losses()})[:3]
["{'a': b''}", "{'a': b'12'}", "{'a': b'1234'}"]
"""

import dataclasses
import os
import random
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fx_core.testing.faults import Call, Fault, FaultyFileSystem

__all__ = ["DiskState", "RecordedDisk"]

_Entry = tuple[int, str]
_ROOT = 0


@dataclasses.dataclass(frozen=True)
class DiskState:
    """What a disk holds after a crash.

    Attributes:
      after: how many calls had been done.
      what: which of the things that were not flushed are there.
      files: content by relative path.
      folders: relative paths of the directories.
    """

    after: int
    what: str
    files: Mapping[str, bytes]
    folders: tuple[str, ...]

    def write(self, root: Path) -> None:
        """Creates a directory that holds this."""
        root.mkdir(parents=True)
        for folder in self.folders:
            (root / folder).mkdir()
        for name, content in self.files.items():
            (root / name).write_bytes(content)

    @property
    def key(self) -> Any:
        """Equal for states that look the same."""
        return tuple(sorted(self.files.items())), self.folders


@dataclasses.dataclass(frozen=True)
class _Moment:
    """What the kernel knows after a call, and what of it is certain to be on the disk."""

    folders: Mapping[int, Mapping[str, int]]
    files: Mapping[int, bytes]
    flushed_files: Mapping[int, bytes]
    flushed_folders: Mapping[int, Mapping[str, int]]
    pending: tuple[Mapping[_Entry, int | None], ...]


class RecordedDisk(FaultyFileSystem):
    """Records what is below a directory after every call; see the module.

    What is there when the context opens counts as flushed.

    Args:
      root: the directory, which exists.
      fault: gives the error to raise instead of doing a call, or None.
    """

    def __init__(self, root: str | os.PathLike[str], fault: Fault | None = None):
        super().__init__(root, fault, after=self._record)
        self._names: dict[tuple[int, int], int] = {}
        self._cache: dict[tuple[int, ...], bytes] = {}
        self._fresh = 1
        folders, files = self._look()
        self.moments = [_Moment(folders, files, files, folders, ())]

    def kills(self) -> Iterator[DiskState]:
        """The state after each call, as after ``kill -9``: the kernel lives and forgets nothing."""
        for index, moment in enumerate(self.moments):
            yield _state(index, "everything", moment.folders, moment.files)

    def power_losses(self, samples: int = 4, seed: int = 0) -> Iterator[DiskState]:
        """States after a loss of power following each call, each once.

        What was flushed is there. Of the changes of directories that were not: none, all, all but one, only one, and
        random ones. Of the content of files: none, all, the first half, with a hole, and a random mix of these.

        Args:
          samples: random states for each moment.
          seed: of the randomness.
        """
        chance, seen = random.Random(seed), set()
        for index, moment in enumerate(self.moments):
            for what, kept, content in _choices(moment, chance, samples):
                state = _state(index, what, _folders(moment, kept), _contents(moment, content))
                if state.key not in seen:
                    seen.add(state.key)
                    yield state

    def _record(self, call: Call) -> None:
        with self._lock:
            last = self.moments[-1]
            folders, files = self._look()
            change = _change(last.folders, folders)
            pending = (*last.pending, change) if change else last.pending
            # Also of files that are gone: until the directory is flushed, they may come back.
            flushed_files, flushed_folders = dict(last.flushed_files), dict(last.flushed_folders)
            if call.kind == "fsync":
                uid = _ROOT if call.path == "." else self._uid(os.stat(os.path.join(self.root, call.path)))
                if uid in files:
                    flushed_files[uid] = files[uid]
                else:
                    certain = [op for op in pending if any(folder == uid for folder, _ in op)]
                    pending = tuple(op for op in pending if op not in certain)
                    # A move between two directories becomes certain as one.
                    flushed_folders = _apply(flushed_folders, certain) | {uid: folders[uid]}
            self.moments.append(_Moment(folders, files, flushed_files, flushed_folders, pending))

    def _look(self) -> tuple[dict[int, dict[str, int]], dict[int, bytes]]:
        folders: dict[int, dict[str, int]] = {}
        files: dict[int, bytes] = {}
        present: set[tuple[int, int]] = set()
        self._look_into(self.root, _ROOT, folders, files, present)
        # A number of a file that has gone may be given to another one.
        self._names = {inode: uid for inode, uid in self._names.items() if inode in present}
        return folders, files

    def _look_into(self, path: str, uid: int, folders: Any, files: Any, present: set[tuple[int, int]]) -> None:
        folders[uid] = {}
        with os.scandir(path) as entries:
            for entry in list(entries):
                status = entry.stat(follow_symlinks=False)
                present.add((status.st_dev, status.st_ino))
                child = folders[uid][entry.name] = self._uid(status)
                if stat.S_ISDIR(status.st_mode):
                    self._look_into(entry.path, child, folders, files, present)
                else:
                    files[child] = self._content(entry.path, status)

    def _uid(self, status: os.stat_result) -> int:
        inode = (status.st_dev, status.st_ino)
        if inode not in self._names:
            self._names[inode], self._fresh = self._fresh, self._fresh + 1
        return self._names[inode]

    def _content(self, path: str, status: os.stat_result) -> bytes:
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        # Small files are always read: two writes may fall into one tick of the clock.
        if status.st_size < 2**16 or key not in self._cache:
            handle = os.open(path, os.O_RDONLY)
            try:
                self._cache[key] = os.pread(handle, status.st_size, 0)
            finally:
                os.close(handle)
        return self._cache[key]


def _change(before: Any, after: Any) -> dict[_Entry, int | None]:
    """Which entries of which directories differ, with what they are now."""
    return {
        (folder, name): after.get(folder, {}).get(name)
        for folder in before.keys() | after.keys()
        for name in before.get(folder, {}).keys() | after.get(folder, {}).keys()
        if before.get(folder, {}).get(name) != after.get(folder, {}).get(name)
    }


def _choices(moment: _Moment, chance: random.Random, samples: int) -> Iterator[tuple[str, list[bool], Any]]:
    count = len(moment.pending)
    for content in ("none", "all", "half", "hole"):
        yield f"all names, {content} of the content", [True] * count, lambda uid, content=content: content
    yield "no names", [False] * count, lambda uid: "all"
    for index in range(count):
        yield "all names but one", [i != index for i in range(count)], lambda uid: "all"
        yield "one name", [i == index for i in range(count)], lambda uid: "all"
    for _ in range(samples if count else 0):
        kept = [chance.random() < 0.5 for _ in range(count)]
        salt = chance.random()

        def mixed(uid: int, salt: float = salt) -> str:
            return random.Random(f"{salt} {uid}").choice(("none", "all", "half", "hole"))

        yield "some names, some of the content", kept, mixed


def _folders(moment: _Moment, kept: list[bool]) -> dict[int, dict[str, int]]:
    # A directory that was never flushed starts empty; what is flushed starts as it was then.
    return _apply(moment.flushed_folders, [op for keep, op in zip(kept, moment.pending) if keep])


def _apply(folders: Any, changes: Iterable[Mapping[_Entry, int | None]]) -> dict[int, dict[str, int]]:
    changed = {uid: dict(entries) for uid, entries in folders.items()}
    for change in changes:
        for (folder, name), uid in change.items():
            if uid is None:
                changed.get(folder, {}).pop(name, None)
            else:
                changed.setdefault(folder, {})[name] = uid
    return changed


def _contents(moment: _Moment, content: Any) -> dict[int, bytes]:
    return {
        uid: moment.flushed_files.get(uid, b"") if uid not in moment.files else _torn(moment, uid, content(uid))
        for uid in moment.files.keys() | moment.flushed_files.keys()
    }


def _torn(moment: _Moment, uid: int, kind: str) -> bytes:
    now, before = moment.files[uid], moment.flushed_files.get(uid, b"")
    if now == before or kind == "all":
        return now
    middle = len(now) // 2
    return {"none": before, "half": now[:middle], "hole": bytes(middle) + now[middle:]}[kind]


def _state(index: int, what: str, folders: Any, files: Any) -> DiskState:
    found: dict[str, bytes] = {}
    inside: list[str] = []

    def walk(uid: int, path: str, above: frozenset[int]) -> None:
        for name, child in sorted(folders.get(uid, {}).items()):
            where = f"{path}{name}"
            if child in files:
                found[where] = files[child]
            elif child not in above:
                inside.append(where)
                walk(child, where + "/", above | {child})

    walk(_ROOT, "", frozenset([_ROOT]))
    return DiskState(index, what, found, tuple(inside))
