"""A series of checkpoints in one directory."""

import contextlib
import logging
import operator
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import numpy as np
from fx_core.errors import FxError
from fx_core.errors.files import ManifestError
from fx_core.files import MANIFEST, clean_leftovers, local_path, remove_directory, settled
from fx_core.manifests import foreign

from fx_ckpt import operations as checkpoint
from fx_ckpt.draft import AUTO, FORMAT, OWN, Draft, prepare
from fx_ckpt.errors import NoCheckpointError, StepTakenError, invalid_option, no_checkpoint
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.recognition import Found, is_checkpoint, recognized
from fx_ckpt.running import processes
from fx_ckpt.running.background import Background
from fx_ckpt.running.preemption import Preempted, Preemption
from fx_ckpt.tree.selection import Select

T = TypeVar("T")

_log = logging.getLogger("fx.ckpt")
_RENAMED = "A directory was renamed or copied: rename it back, or read it with fx_ckpt.restore."
_FIXES = {
    "keep": "Pass how many of the newest steps to keep, 1 at least; None keeps all.",
    "keep_every": "Pass the distance of the steps to keep for good; None keeps none of them.",
    "save_interval": "Pass the distance of the steps to save; 1 saves each.",
}
_LISTINGS = 4
_NAME = re.compile(r"step_(\d{8}|[1-9]\d{8,})")


class CheckpointManager:
    """Keeps the checkpoints of a run: one directory per step, the newest and the best of them.

    A step is there only when it is whole and on the disk: a process that dies while saving leaves the earlier steps as
    they were, and what it left is removed by the next save. Several managers may look at one directory while one of
    them writes.

    A save takes a copy of the tree and returns; the rest happens in a thread, one save at a time. Every other method
    waits for it, so that results are those of saves that are done, and raises its error if it failed.

    As a context manager it takes SIGTERM over: the next `save`, whatever its step, is written at once, and ends the
    program by `Preempted`, a `SystemExit`. If none comes, the signal is passed on when the manager is left, to who had
    it before: it ends the program if there was no handler.

    Args:
      directory: where the checkpoints are; made by the first save.
      backend: name of the backend to write with; what wrote a checkpoint reads it. See `fx_ckpt.save` for ``"auto"``.
      keep: how many of the newest steps to keep; None keeps all.
      keep_every: also keep every step that is a multiple of this.
      best: also keep the step with the best value of this metric, and the last of equal ones.
      mode: whether the best is the ``"max"`` or the ``"min"``.
      async_: whether `save` returns before the step is on the disk. With several processes it never does.
      save_interval: save only steps that are a multiple of this.

    Raises:
      ArgumentError: an argument does not make sense.
      ArgumentError: the directory is the URL of another place, or no name of a file.

    Example:
      >>> import tempfile
      >>> with CheckpointManager(tempfile.mkdtemp(), keep=2, best="accuracy") as manager:
      ...     for step, accuracy in enumerate([0.1, 0.9, 0.5, 0.6], start=1):
      ...         saved = manager.save(step, {"step": step}, metrics={"accuracy": accuracy})
      >>> manager.all_steps(), manager.best_step()
      ([2, 3, 4], 2)
      >>> manager.restore()
      {'step': 4}
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        backend: str = AUTO,
        *,
        keep: int | None = None,
        keep_every: int | None = None,
        best: str | None = None,
        mode: Literal["max", "min"] = "max",
        async_: bool = True,
        save_interval: int = 1,
    ):
        for name, number in {"keep": keep, "keep_every": keep_every, "save_interval": save_interval}.items():
            if number is not None and (type(number) is not int or number < 1):
                raise invalid_option(name, "a positive integer", number, _FIXES[name])
        if mode not in ("max", "min"):
            raise invalid_option("mode", '"max" or "min"', mode, 'Pass "min" for losses, "max" for accuracies.')
        if not isinstance(best, str | None):
            raise invalid_option("best", "the name of a metric, a string", best, "Pass best='loss' or the like.")
        self.directory = local_path(directory)
        self.backend, self.save_interval, self.async_ = backend, save_interval, async_
        self.keep, self.keep_every, self.best, self.mode = keep, keep_every, best, mode
        self._background, self._preemption = Background(), Preemption()

    def save(
        self,
        step: int,
        tree: Any,
        *,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        iterators: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        force: bool = False,
    ) -> bool:
        """Saves a step, and then removes what need not be kept.

        On return the tree may change; the step is there when it is on the disk, which `wait` waits for.

        Args:
          step: number of the step, after all that are there: an integer, or an array that holds one.
          tree: what to save.
          metrics: numbers that belong to the step, for ``best`` and for people.
          metadata: what else to keep, as JSON.
          iterators: data iterators by name, whose states are kept; see `fx_ckpt.save`.
          overwrite: replace the step if it is there, and accept an earlier one than the newest. What is not a
            checkpoint is never replaced.
          force: save even if ``save_interval`` says no.

        Returns:
          Whether the step is saved.

        Raises:
          StepTakenError: there is a checkpoint of this step or a later one.
          AlreadyExistsError: what has the name of the step is no checkpoint.
          StorageError: the system could not write; if it happens in the background, the next call raises it.
          ArgumentError: the step is no natural number, or the metric called ``best`` is missing.
          Preempted: SIGTERM came before; the step is on the disk.
          Exception: what an earlier save raised, if it was not raised before; this save is then not begun.
        """
        step = _number(step)
        last = self._preemption.due(step)
        if step % self.save_interval and not force and not last:
            return False
        if self.best is not None and self.best not in (metrics or {}) and not last:
            expected = f"the metric {self.best!r}, which decides what is best"
            raise invalid_option("metrics", expected, metrics, f"Pass metrics={{{self.best!r}: …}} with every save.")
        newest = self.latest_step()
        if not (last and newest == step):
            self._check_after(newest, step, overwrite)
            options = {"metadata": metadata, "overwrite": overwrite, "step": step, "metrics": metrics}
            path = local_path(self._path(step))
            draft = prepare(path, tree, backend=self.backend, data_iterators=iterators, **options)
            draft.is_step = True
            self._write(draft, step, at_once=last)
        if last:
            self._preemption.acted = True
            raise Preempted(step)
        return True

    def restore(
        self,
        step: int | None = None,
        target: Any = None,
        *,
        only: Select = None,
        cast: Any = False,
        mapped: bool = False,
        iterators: Mapping[str, Any] | None = None,
    ) -> Any:
        """Reads a step, the newest by default; see `fx_ckpt.restore`.

        Raises:
          NoCheckpointError: there is none.
        """
        step = None if step is None else _number(step)
        options: dict[str, Any] = {"only": only, "cast": cast, "mapped": mapped, "iterators": iterators}
        return self._of_step(step, lambda path: checkpoint.restore(path, target, **options))

    def inspect(self, step: int | None = None) -> CheckpointInfo:
        """Returns what a step holds, the newest by default; see `fx_ckpt.inspect`.

        Raises:
          NoCheckpointError: there is none.
        """
        return self._of_step(None if step is None else _number(step), checkpoint.inspect)

    def all_steps(self) -> list[int]:
        """Returns the steps that are there, in order."""
        self.wait()
        return self._steps()

    def _steps(self) -> list[int]:
        if not self.directory.is_dir():
            return []
        steps: list[int] = []
        # While one step takes the place of another, a listing may have neither.
        for _ in range(_LISTINGS):
            names = {_visible(name) for name in os.listdir(self.directory)}
            found = [int(match[1]) for match in map(_NAME.fullmatch, names) if match]
            steps = sorted(step for step in found if _is_there(settled(self._path(step)) / MANIFEST))
            if steps:
                break
        return steps

    def latest_step(self) -> int | None:
        """Returns the newest step, or None."""
        return max(self.all_steps(), default=None)

    def best_step(self) -> int | None:
        """Returns the step with the best metric, the last of equal ones; None if no step has it.

        Raises:
          ArgumentError: the manager was made without ``best``.
        """
        if self.best is None:
            raise invalid_option("best", "the name of a metric", None, "Make the manager with best='loss' or the like.")
        return self._best_of(self.all_steps())

    def path(self, step: int) -> Path:
        """Returns the directory of a step."""
        self.wait()
        return self._path(_number(step))

    def _path(self, step: int) -> Path:
        return self.directory / f"step_{step:08d}"

    def wait(self) -> None:
        """Returns when everything that `save` took is on the disk.

        Raises:
          Exception: what the save raised.
        """
        self._background.wait()

    def __enter__(self) -> Self:
        self._preemption.watch()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.wait()
        finally:
            self._preemption.release()

    def _check_after(self, newest: int | None, step: int, overwrite: bool) -> None:
        if newest is not None and newest >= step and not overwrite:
            raise StepTakenError(str(self.directory), step, newest)

    def _write(self, draft: Draft, step: int, at_once: bool) -> None:
        def task() -> None:
            processes.first_only(self._clean)
            draft.write()
            processes.first_only(lambda: self._retire(step))

        # Where several processes write, each step of it is one that all take together, in the order of the program.
        if self.async_ and not at_once and processes.count() == 1:
            draft.check_place()
            draft.snapshot()
            self._background.start(task)
        else:
            task()

    def _clean(self) -> None:
        if self.directory.is_dir():
            clean_leftovers(self.directory)

    def _of_step(self, step: int | None, act: Callable[[Path], T]) -> T:
        """Read something of a step that another process may retire meanwhile: then of the newest, if none was named."""
        while True:
            steps = self.all_steps()
            chosen = steps[-1] if step is None and steps else step
            if chosen not in steps:
                raise self._absent(step, steps)
            try:
                self._check_name(chosen)
                return act(self._path(chosen))
            except (OSError, FxError):
                if chosen in self._steps():
                    raise

    def _absent(self, step: int | None, steps: list[int]) -> NoCheckpointError:
        found = None if steps or not self.directory.exists() else recognized(self.directory)
        if is_checkpoint(self.directory):
            found = Found("one checkpoint, not a directory of steps", "Use fx_ckpt.restore(path).")
        if found is None or not found.reader.startswith("Use "):
            return no_checkpoint(str(self.directory), step, steps)
        return no_checkpoint(str(self.directory), step, steps, found.what, found.reader)

    def _check_name(self, step: int) -> None:
        saved = checkpoint.inspect(self._path(step)).step
        if saved != step:
            raise ManifestError(
                self._path(step), "This is the checkpoint of another step.", expected=step, got=saved, fix=_RENAMED
            )

    def _retire(self, saved: int) -> None:
        if self.keep is None:
            return
        steps = self._steps()
        kept = {saved, *steps[-self.keep :]}
        kept |= {step for step in steps if self.keep_every and step % self.keep_every == 0}
        if self.best is not None and (best := self._best_of(steps)) is not None:
            kept.add(best)
        for step in steps:
            if step not in kept:
                self._remove(settled(self._path(step)))

    def _remove(self, path: Path) -> None:
        """Remove a step, unless that would take something else with it: that is said, and the save was done anyway."""
        try:
            found = None if path.is_symlink() else foreign(path, FORMAT, OWN)
            if found is None:
                remove_directory(path)
            else:
                _log.warning("%s is kept, since this does not remove what is not its own: it is %s.", path, found)
        except FileNotFoundError:
            pass  # Another process was faster.
        except OSError as error:
            _log.warning("%s is kept, since it cannot be removed: %s", path, error)

    def _best_of(self, steps: list[int]) -> int | None:
        sign = 1 if self.mode == "max" else -1
        scores = [(sign * value, step) for step in steps if (value := self._metric(step)) is not None]
        return max(scores)[1] if scores else None

    def _metric(self, step: int) -> float | None:
        try:
            value = checkpoint.inspect(self._path(step)).metrics.get(self.best or "")
        except (FxError, OSError) as error:
            # Another process may have retired it. What cannot be read is not removed either; see `_remove`.
            if _is_there(settled(self._path(step)) / MANIFEST):
                _log.warning("Step %d of %s has no metrics that can be read: %s", step, self.directory, error)
            return None
        return None if value is None or value != value else value


def _number(step: Any) -> int:
    """The integer that a step is; the counter of a train state is an array."""
    number = None
    if not isinstance(step, (bool, np.bool_)):
        with contextlib.suppress(TypeError):
            number = operator.index(step)
    if number is None or number < 0:
        fix = "Pass int(step), outside of jit."
        raise invalid_option("step", "an integer, not negative", step, fix)
    return number


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # What may not be looked at is there: to pass it over would let an older step look like the newest.
        return True
    return True


def _visible(name: str) -> str:
    """Give the name that a directory has, or had before a replacement was interrupted."""
    return name.removeprefix(".").removesuffix(".fx-old") if name.endswith(".fx-old") else name
