"""What others have put in the way of saves: every function that replaces or removes has to leave it as it was."""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fx_core.errors import AlreadyExistsError
from fx_core.files import MANIFEST, AtomicDirectory

from fx_ckpt import checkpoints
from fx_ckpt.converting import convert
from fx_ckpt.manager import CheckpointManager
from fx_ckpt.operations import save

__all__ = ["THINGS", "WRITERS", "left_alone"]

_TREE = {"w": np.ones(2)}


def _folder(path: Path, backend: str) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("work")


def _file(path: Path, backend: str) -> None:
    path.write_text("work")


def _link(path: Path, backend: str) -> None:
    _folder(path.with_name("elsewhere"), backend)
    path.symlink_to(path.with_name("elsewhere"))


def _link_to_checkpoint(path: Path, backend: str) -> None:
    path.symlink_to(save(path.with_name("elsewhere"), _TREE, backend=backend))


def _dangling(path: Path, backend: str) -> None:
    path.symlink_to("nowhere")


def _run(path: Path, backend: str) -> None:
    CheckpointManager(path, backend, async_=False).save(1, _TREE)


def _bundle(path: Path, backend: str) -> None:
    with AtomicDirectory(path, format="fx-bundle", version=1) as new:
        (new.directory / "weights").write_bytes(b"work")


def _dataset(path: Path, backend: str) -> None:
    (path / "data").mkdir(parents=True)
    (path / "photos").mkdir()
    (path / "data" / "one").write_text("work")
    (path / MANIFEST).write_text('{"files": {"data/one": {}}}')


def _annotated(path: Path, backend: str) -> None:
    (save(path, _TREE, backend=backend) / "data" / "notes").write_text("work")


def _beside_data(path: Path, backend: str) -> None:
    (save(path, _TREE, backend=backend) / "plots").mkdir()
    (path / "plots" / "loss.png").write_bytes(b"work")


THINGS: dict[str, Callable[[Path, str], None]] = {
    "a folder": _folder,
    "a file": _file,
    "a link to a folder": _link,
    "a link to a checkpoint": _link_to_checkpoint,
    "a link to nothing": _dangling,
    "a run with its steps": _run,
    "a bundle": _bundle,
    "a folder with a manifest of its own": _dataset,
    "a checkpoint with a note in it": _annotated,
    "a checkpoint with plots beside its data": _beside_data,
}
"""What may be in the way, made at a path."""


def _convert(path: Path, backend: str) -> None:
    convert(save(path.with_name("source"), _TREE, backend=backend), backend, path, overwrite=True)


def _save_checkpoint(path: Path, backend: str) -> None:
    checkpoints.save_checkpoint(path.parent, _TREE, 1, prefix="step_0000000", overwrite=True)


def _retire(path: Path, backend: str) -> None:
    manager = CheckpointManager(path.parent, backend, keep=1, async_=False)
    for step in (5, 6):
        manager.save(step, _TREE)


def _retire_flax(path: Path, backend: str) -> None:
    for step in (5, 6):
        checkpoints.save_checkpoint(path.parent, _TREE, step, prefix="step_", keep=1)


WRITERS: dict[str, Callable[[Path, str], object]] = {
    "save": lambda path, backend: save(path, _TREE, backend=backend, overwrite=True),
    "convert": _convert,
    "a manager": lambda path, backend: CheckpointManager(path.parent, backend).save(1, _TREE, overwrite=True),
    "save_checkpoint": _save_checkpoint,
    "retirement": _retire,
    "retirement of save_checkpoint": _retire_flax,
}
"""What replaces or removes; the thing is at ``step_00000001``."""

_LINKS_GO = {"retirement", "retirement of save_checkpoint"}


def left_alone(backend: str, work: Path) -> Counter[str]:
    """Lets each writer meet each thing; gives how many met each, and all things are as they were.

    Of a link that is retired, the link goes and what it leads to stays.

    Raises:
      AssertionError: something is not as it was, or a writer that was in the way of nothing else failed silently.
    """
    counts: Counter[str] = Counter()
    with _quiet():
        for thing, make in THINGS.items():
            for number, (writer, write) in enumerate(WRITERS.items()):
                place = work / thing / str(number) / "step_00000001"
                place.parent.mkdir(parents=True)
                make(place, backend)
                before = _contents(place.parent)
                refused = _refused(write, place, backend)
                assert refused or writer in _LINKS_GO, f"{writer} wrote over {thing}"
                after = _contents(place.parent)
                lost = {path for path in before if after.get(path) != before[path]}
                assert not lost - ({place} if writer in _LINKS_GO and thing.startswith("a link") else set()), (
                    f"{writer} took {sorted(map(str, lost))} of {thing}"
                )
                counts[thing] += 1
    return counts


def _refused(write: Callable[[Path, str], object], place: Path, backend: str) -> bool:
    try:
        write(place, backend)
    except AlreadyExistsError:
        return True
    return False


def _contents(directory: Path) -> dict[Path, Any]:
    found: dict[Path, Any] = {}
    for path in directory.rglob("*"):
        found[path] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("fx.ckpt")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
