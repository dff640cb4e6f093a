"""The functions of ``flax.training.checkpoints``, and its files: ``checkpoint_<step>``, one msgpack file each.

New code is better served by `fx_ckpt.save` and `fx_ckpt.CheckpointManager`, which check what they read.
"""

import glob
import logging
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from fx_core import config, filesystem
from fx_core.errors import AlreadyExistsError
from fx_core.files import hidden_directory, local_path, make_directory, storing

from fx_ckpt.errors import StepTakenError, class_as_target, invalid_option, no_checkpoint
from fx_ckpt.formats.msgpack import from_bytes, msgpack_restore, to_bytes
from fx_ckpt.formats.orbax_trees import errors_of_the_disk, filled, orbax, read_state
from fx_ckpt.recognition import Found, is_checkpoint, is_msgpack, is_orbax, recognized
from fx_ckpt.renaming import convert_pre_linen
from fx_ckpt.running.background import AsyncManager

__all__ = [
    "AsyncManager",
    "available_steps",
    "convert_pre_linen",
    "latest_checkpoint",
    "natural_sort",
    "restore_checkpoint",
    "safe_normpath",
    "save_checkpoint",
    "save_checkpoint_multiprocess",
]

_log = logging.getLogger("fx.ckpt")

StrPath = str | os.PathLike[str]
Step = int | float

_UNSIGNED = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(f"[-+]?{_UNSIGNED}")


def natural_sort(file_list: Iterable[str], signed: bool = True) -> list[str]:
    """Sorts names by the numbers in them.

    Args:
      file_list: the names.
      signed: whether a sign before a number belongs to it; otherwise it is passed over.

    Example:
      >>> natural_sort(["step_10", "step_9", "step_-1"])
      ['step_-1', 'step_9', 'step_10']
    """
    parts = re.compile(f"([-+]?{_UNSIGNED})" if signed else f"[-+]?({_UNSIGNED})")

    def key(name: str) -> list[str | float]:
        return [float(part) if index % 2 else part for index, part in enumerate(parts.split(name))]

    return sorted(file_list, key=key)


def safe_normpath(path: str) -> str:
    """Normalizes a path as `os.path.normpath` does, and leave the scheme of a URL alone.

    Example:
      >>> safe_normpath("./a//b/c"), safe_normpath("gs://a//b/../c")
      ('a/b/c', 'gs://a/c')
    """
    scheme, mark, rest = path.rpartition("://")
    return scheme + mark + os.path.normpath(rest)


def available_steps(ckpt_dir: StrPath, prefix: str = "checkpoint_", step_type: type = int) -> list[Any]:
    """Returns the steps of the checkpoints in a directory, in order.

    Args:
      ckpt_dir: the directory.
      prefix: what the names start with, before the step.
      step_type: ``int`` or ``float``.
    """
    return [step_type(name.removeprefix(prefix)) for name in _names(local_path(ckpt_dir), prefix)]


def latest_checkpoint(ckpt_dir: StrPath, prefix: str = "checkpoint_") -> str | None:
    """Returns the path of the checkpoint with the highest step, or None."""
    directory = local_path(ckpt_dir)
    names = _names(directory, prefix)
    return str(directory / names[-1]) if names else None


def save_checkpoint(
    ckpt_dir: StrPath,
    target: Any,
    step: Step,
    prefix: str = "checkpoint_",
    keep: int = 1,
    overwrite: bool = False,
    keep_every_n_steps: int | None = None,
    async_manager: Any = None,
    orbax_checkpointer: Any = None,
) -> str:
    """Saves a tree as a step; the file appears whole or not at all.

    Args:
      ckpt_dir: the directory; made if missing.
      target: the tree.
      step: number of the step, after all that are there.
      prefix: what the name starts with, before the step.
      keep: how many of the newest steps to keep; 0 keeps all.
      overwrite: replace this step, and remove later ones. What neither Flax, fx nor Orbax wrote stays.
      keep_every_n_steps: also keep steps that are this far apart.
      async_manager: an object whose ``save_async(task)`` runs the writing later.
      orbax_checkpointer: an Orbax checkpointer; then the step is a directory that Orbax writes. So it is with the flag
        ``use_orbax_checkpointing`` of `fx_core.config`. An asynchronous one finishes its last save first.

    Returns:
      The path.

    Raises:
      StepTakenError: there is this step or a later one.
      AlreadyExistsError: something else has the name of the step.
      StorageError: the system could not write: the disk is full, or the like.
      ArgumentError: the directory is the URL of another place, or no name of a file.
      ArgumentError: ``keep`` is negative.
      UnsupportedLeafError: the tree holds something that msgpack cannot.
    """
    if keep is not None and keep < 0:
        raise invalid_option("keep", "how many steps to keep, or 0 for all", keep, "Pass keep=1 or more, or 0.")
    _wait(orbax_checkpointer)
    if orbax_checkpointer is None and config.use_orbax_checkpointing:
        orbax_checkpointer = orbax().PyTreeCheckpointer()
    directory = local_path(ckpt_dir)
    path = local_path(directory / f"{prefix}{step}")
    found = _foreign(path)
    if found is not None:
        raise AlreadyExistsError(path, found)
    with storing(path):
        make_directory(directory)
    later = [name for name in _names(directory, prefix) if float(name.removeprefix(prefix)) >= float(step)]
    if later and not overwrite:
        raise StepTakenError(str(directory), step, later[-1].removeprefix(prefix))
    # Taken now: a later change of the tree must not get into the file.
    content = to_bytes(target) if orbax_checkpointer is None else None

    def write() -> None:
        with storing(path):
            if content is not None:
                _write(path, content)
            elif orbax_checkpointer is not None:
                _write_orbax(path, target, orbax_checkpointer, overwrite)
                if later:
                    _wait(orbax_checkpointer)  # what is removed next may be all that there is
        for name in later:
            if name != path.name:
                _remove(directory / name)
        _retire(directory, prefix, keep, keep_every_n_steps, path.name)

    write() if async_manager is None else async_manager.save_async(write)
    return str(path)


def save_checkpoint_multiprocess(
    ckpt_dir: StrPath,
    target: Any,
    step: Step,
    prefix: str = "checkpoint_",
    keep: int = 1,
    overwrite: bool = False,
    keep_every_n_steps: int | None = None,
    async_manager: Any = None,
    gda_manager: Any = None,
    orbax_checkpointer: Any = None,
) -> str:
    """Saves a tree of which each process holds a part; see `save_checkpoint`.

    With one process this is `save_checkpoint`. With several, pass an ``orbax_checkpointer``, which writes together.

    Raises:
      ArgumentError: there are several processes and no checkpointer, or a ``gda_manager`` was given.
    """
    _refuse("gda_manager", gda_manager)
    if jax.process_count() > 1 and orbax_checkpointer is None:
        fix = "Pass orbax.checkpoint.PyTreeCheckpointer(); or use fx_ckpt.save, which chooses by itself."
        raise invalid_option("orbax_checkpointer", "an Orbax checkpointer, with several processes", None, fix)
    return save_checkpoint(
        ckpt_dir, target, step, prefix, keep, overwrite, keep_every_n_steps, async_manager, orbax_checkpointer
    )


def restore_checkpoint(
    ckpt_dir: StrPath,
    target: Any,
    step: Step | None = None,
    prefix: str = "checkpoint_",
    parallel: bool = True,
    gda_manager: Any = None,
    allow_partial_mpa_restoration: bool = False,
    orbax_checkpointer: Any = None,
    orbax_transforms: dict[str, Any] | None = None,
) -> Any:
    """Reads a step.

    Args:
      ckpt_dir: the directory, or the path of one checkpoint.
      target: a tree of the same structure, any pytree where Orbax wrote it; None gives the state dictionary.
      step: the step; by default the highest.
      prefix: what the names start with, before the step.
      parallel: reading is as fast either way; kept for programs that pass it.
      gda_manager: must be None: such checkpoints are from before JAX arrays.
      allow_partial_mpa_restoration: must be false, for the same reason.
      orbax_checkpointer: an Orbax checkpointer for directories that Orbax wrote; an asynchronous one finishes its last
        save first.
      orbax_transforms: must be None; restore without a target and convert.

    Returns:
      The tree; or ``target`` itself, with a warning in the log, if there is no checkpoint and no step was named: so
      programs start that look for one first.

    Raises:
      NoCheckpointError: the step named is not there, or there is something that another function reads; it says which.
      ArgumentError: the directory is the URL of another place, or no name of a file.
      DamagedDataError: the file is cut, changed, or something else.
      StateDictMismatchError: the target has another structure.
      ArgumentError: an argument that must be left alone was given.
    """
    del parallel
    _refuse("gda_manager", gda_manager)
    _refuse("orbax_transforms", orbax_transforms)
    _refuse("allow_partial_mpa_restoration", allow_partial_mpa_restoration or None)
    if isinstance(target, type):
        raise class_as_target(target)
    _wait(orbax_checkpointer)
    directory = local_path(ckpt_dir)
    path = _find(directory, step, prefix)
    _refuse_others(directory if path is None else path)
    if path is None:
        _log.warning("There is no checkpoint %s… in %s: the target is given back as it is.", prefix, directory)
        return target
    if path.is_dir():
        state = read_state(path, orbax_checkpointer)
        return state if target is None else filled(target, state)
    content = path.read_bytes()
    return msgpack_restore(content) if target is None else from_bytes(target, content)


def _wait(orbax_checkpointer: Any) -> None:
    """Wait for a save that an asynchronous checkpointer has begun: before that, its step is not there."""
    if hasattr(orbax_checkpointer, "wait_until_finished"):
        orbax_checkpointer.wait_until_finished()


def _names(directory: Path, prefix: str) -> list[str]:
    if not directory.is_dir():
        return []
    found = [name for name in os.listdir(directory) if name.startswith(prefix)]
    steps = {name: name.removeprefix(prefix) for name in found}
    return sorted((n for n in found if _NUMBER.fullmatch(steps[n])), key=lambda n: float(steps[n]))


def _find(directory: Path, step: Step | None, prefix: str) -> Path | None:
    if step is not None:
        path = directory / f"{prefix}{step}"
        if not path.exists():
            available = [name.removeprefix(prefix) for name in _names(directory, prefix)]
            raise no_checkpoint(str(directory), step, available)
        return path
    if directory.is_file() or (directory.is_dir() and is_orbax(directory)):
        return directory
    names = _names(directory, prefix)
    return directory / names[-1] if names else None


def _refuse_others(path: Path) -> None:
    """Refuse what another function reads: to give the target back would look like a restore."""
    found = _OURS if is_checkpoint(path) else recognized(path)
    if path.is_dir() and not is_orbax(path) and found is not None and found.reader.startswith("Use "):
        raise no_checkpoint(str(path), found=found.what, fix=found.reader)


_OURS = Found("a checkpoint that fx_ckpt.save wrote", "Use fx_ckpt.restore(path, target).")


def _foreign(path: Path) -> str | None:
    """Say what is at the place of a step that neither Flax, fx nor Orbax wrote there."""
    if path.is_symlink():
        return f"a symbolic link to {os.readlink(path)}"
    if path.is_dir():
        written = is_orbax(path) or not any(path.iterdir())
        return None if written else (_OURS if is_checkpoint(path) else recognized(path) or _OURS).what
    return "a file that is no msgpack" if path.is_file() and path.stat().st_size and not is_msgpack(path) else None


def _write(path: Path, content: bytes) -> None:
    _clean(path)
    hidden, lock = path.with_name(f".{path.name}.{secrets.token_hex(4)}"), None
    try:
        hidden.touch(exist_ok=False)
        lock = filesystem.lock(hidden)
        hidden.write_bytes(content)
        filesystem.flush_file(hidden)
        if path.is_dir() and not path.is_symlink() and not filesystem.exchange(hidden, path):
            # What Orbax wrote as this step; no rename puts a file in the place of a directory.
            shutil.rmtree(path)
        if hidden.is_file():
            os.replace(hidden, path)
        filesystem.flush_directory(path.parent)
    finally:
        _discard(hidden)
        if lock is not None:
            filesystem.unlock(lock)


_RANDOM = "[0-9a-f]" * 8  # what secrets.token_hex(4) gives, and nobody else's names


def _clean(path: Path) -> None:
    """Remove what writers of this path left that were killed; those that live hold a lock."""
    for hidden in path.parent.glob(f".{glob.escape(path.name)}.{_RANDOM}"):
        lock = filesystem.lock(hidden)
        if lock is not None and lock != filesystem.NO_LOCK:
            _discard(hidden)
            filesystem.unlock(lock)


def _write_orbax(path: Path, target: Any, checkpointer: Any, overwrite: bool) -> None:
    if overwrite and os.path.lexists(path) and jax.process_count() == 1:
        return _replace_by_orbax(path, target, checkpointer)
    before = _unfinished(path)
    try:
        with errors_of_the_disk(path):
            checkpointer.save(path, target, force=overwrite)
    except BaseException:
        # Orbax leaves what it has begun, on a disk that may be full. With several processes others may still write.
        for begun in _unfinished(path) - before if jax.process_count() == 1 else ():
            shutil.rmtree(begun, ignore_errors=True)
        raise


def _replace_by_orbax(path: Path, target: Any, checkpointer: Any) -> None:
    """Let Orbax write beside the old step, which it would remove before it has written the new one."""
    with hidden_directory(path) as hidden:
        with errors_of_the_disk(path):
            checkpointer.save(hidden / path.name, target)
            _wait(checkpointer)
        filesystem.flush_tree(hidden / path.name)
        if not filesystem.exchange(hidden / path.name, path):
            _discard(path)
            os.rename(hidden / path.name, path)
        filesystem.flush_directory(path.parent)


def _unfinished(path: Path) -> set[Path]:
    """Return the directories that Orbax has begun for a path, and will rename."""
    return set(path.parent.glob(f"{glob.escape(path.name)}.orbax-checkpoint-tmp*"))


def _retire(directory: Path, prefix: str, keep: int | None, every: int | None, saved: str) -> None:
    last = -math.inf
    for name in _names(directory, prefix)[:-keep] if keep else []:
        step = float(name.removeprefix(prefix))
        # Step 0 is never one of the spaced ones, as in Flax.
        if every and step and step - last >= every:
            last = step
        elif name != saved:
            _remove(directory / name)


def _remove(path: Path) -> None:
    found = _foreign(path)
    if found is None or path.is_symlink():
        _discard(path)
    else:
        _log.warning("%s is kept, since this does not remove what it did not write: %s.", path, found)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _refuse(name: str, value: Any) -> None:
    if value is not None:
        fix = f"Leave {name!r} out; restore without a target to get everything, and convert it."
        raise invalid_option(name, "nothing: fx does not take it", value, fix)
