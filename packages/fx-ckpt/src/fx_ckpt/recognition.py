"""What is at a path that is no checkpoint of fx_ckpt, and what reads it: for errors."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from fx_core.errors.files import ManifestError
from fx_core.files import MANIFEST

from fx_ckpt.draft import FORMAT

_STEP = re.compile(r"step_\d{8,}")
_FLAX = re.compile(r"[A-Za-z_-]*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
_ORBAX_MARKS = ("_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt")
_LARGEST = 64 * 2**20


class Found(NamedTuple):
    """Something that others wrote, or another function of fx.

    Attributes:
      what: what it is.
      reader: what reads it.
    """

    what: str
    reader: str


def refused(path: Path, error: ManifestError) -> ManifestError:
    """The error for a path that has no manifest of a checkpoint: with what is there and what reads it, where known.

    A checkpoint whose manifest is damaged stays what it is.
    """
    found = recognized(path)
    if found is None:
        return error
    return ManifestError(
        error.path or path,
        f"{str(error).splitlines()[0]} It is {found.what}, not a checkpoint that fx_ckpt.save wrote.",
        expected=f"a directory with a {MANIFEST} of {FORMAT}",
        got=found.what,
        fix=found.reader,
    )


def recognized(path: Path) -> Found | None:
    """Returns what is at a path; None for a checkpoint of fx, whole or damaged, and for what cannot be looked at."""
    try:
        if path.is_dir():
            return _directory(path, sorted(os.listdir(path)))
        if path.is_file():
            return _file(path)
        if not os.path.lexists(path):
            return _nothing(path)
    except OSError:
        pass
    return None


def is_checkpoint(path: Path) -> bool:
    """Returns whether a directory has the manifest of a checkpoint of fx."""
    return _format(path) == FORMAT


def is_orbax(path: Path) -> bool:
    """Returns whether Orbax wrote a tree into a directory."""
    return any((path / mark).exists() for mark in ("_METADATA", "manifest.ocdbt"))


def _nothing(path: Path) -> Found:
    above = next((parent for parent in path.parents if parent.exists()), path)
    return Found("a path where nothing is", f"Check the path: {above} is there, and below it there is no such thing.")


def _directory(path: Path, names: list[str]) -> Found | None:
    kind = _format(path) if MANIFEST in names else None
    if kind == FORMAT or (MANIFEST in names and kind is None and "data" in names):
        return None
    if kind == "fx-bundle":
        return Found("an inference bundle", "Use fx_export.load(path).")
    if any(_STEP.fullmatch(name) for name in names):
        return Found(
            "the directory of a run, with a checkpoint for each step",
            "Use fx_ckpt.CheckpointManager(path).restore(), or restore one of the directories step_… in it.",
        )
    if is_orbax(path):
        reader = "Use fx_ckpt.checkpoints.restore_checkpoint(path, target), which reads it."
        return Found("a directory that Orbax wrote", reader)
    orbax = _below_orbax(path, names)
    if orbax is not None:
        reader = f"Use fx_ckpt.checkpoints.restore_checkpoint({os.fspath(orbax)!r}, target)."
        return Found("a directory of Orbax's CheckpointManager", reader)
    if any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names):
        return Found("a directory of safetensors", "Use fx_ckpt.load_safetensors(path).")
    if any(_FLAX.fullmatch(name) and (path / name).is_file() for name in names):
        reader = "Use fx_ckpt.checkpoints.restore_checkpoint(path, target, prefix=…)."
        return Found("a directory with steps that flax.training.checkpoints wrote", reader)
    held = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Found(f"a directory that holds {held}" if names else "an empty directory", "Check the path.")


def _below_orbax(path: Path, names: list[str]) -> Path | None:
    """The tree in the newest step of Orbax's manager, or in one step of it."""
    steps = sorted((name for name in names if name.isdecimal() and (path / name).is_dir()), key=int)
    for place in [path, *(path / step for step in steps[-1:])]:
        inside = [place, *(entry for entry in sorted(place.iterdir()) if entry.is_dir())]
        for entry in inside:
            if entry != path and is_orbax(entry):
                return entry
    return None


def _file(path: Path) -> Found:
    with open(path, "rb") as file:
        head = file.read(16)
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 10**8):
        return Found("a file of safetensors", "Use fx_ckpt.load_safetensors(path).")
    if head[:4] == b"PK\3\4":
        reader = "Convert it to safetensors where it was made; fx does not unpickle."
        return Found("a zip archive, as PyTorch and numpy.savez write", reader)
    if is_msgpack(path):
        reader = "Use fx_ckpt.checkpoints.restore_checkpoint(path, target), or fx_ckpt.from_bytes with its bytes."
        return Found("a file, as Flax writes them (msgpack)", reader)
    return Found("a file", "Check the path: a checkpoint is a directory.")


def is_msgpack(path: Path) -> bool:
    """Returns whether a file may be one that `to_bytes` wrote, by its first byte: what others write is text, zip or
    pickle.
    """
    with open(path, "rb") as file:
        head = file.read(2)
    return bool(head) and (len(head) == 1 or (head[0] > 0x80 and head[0] != 0xC1))


def _format(path: Path) -> str | None:
    manifest = path / MANIFEST
    try:
        if manifest.is_symlink() or not manifest.is_file() or manifest.stat().st_size > _LARGEST:
            return None
        read = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    kind = read.get("format") if isinstance(read, dict) else None
    return kind if isinstance(kind, str) else None
