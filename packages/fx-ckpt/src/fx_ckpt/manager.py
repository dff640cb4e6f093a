"""A series of checkpoints in one directory."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from fx_core.files import MANIFEST, clean_leftovers, remove_directory, settled

from fx_ckpt import checkpoint
from fx_ckpt.draft import prepare
from fx_ckpt.errors import InvalidOptionError, NoCheckpointError, StepTakenError
from fx_ckpt.info import CheckpointInfo

_NAME = re.compile(r"step_(\d{8}|[1-9]\d{8,17})")


class CheckpointManager:
    """Keeps the checkpoints of a run: one directory per step, the newest and the best of them.

    A step is there only when it is whole: a process that dies while saving leaves the earlier steps as they were, and
    what it left is removed by the next save. The manager holds no state besides its arguments, so that several may look
    at one directory while one of them writes.

    Args:
      directory: where the checkpoints are; made by the first save.
      backend: name of the backend to write with; what wrote a checkpoint reads it.
      keep: how many of the newest steps to keep; None keeps all.
      keep_every: also keep every step that is a multiple of this.
      best: also keep the step with the best value of this metric, and the last of equal ones.
      mode: whether the best is the ``"max"`` or the ``"min"``.
      save_interval: save only steps that are a multiple of this.

    Raises:
      InvalidOptionError: an argument does not make sense.

    Example:
      >>> import tempfile
      >>> with CheckpointManager(tempfile.mkdtemp(), backend="msgpack", keep=2, best="accuracy") as manager:
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
        backend: str = "orbax",
        *,
        keep: int | None = None,
        keep_every: int | None = None,
        best: str | None = None,
        mode: Literal["max", "min"] = "max",
        save_interval: int = 1,
    ):
        for name, number in {"keep": keep, "keep_every": keep_every, "save_interval": save_interval}.items():
            if number is not None and (type(number) is not int or number < 1):
                raise InvalidOptionError(name, "a positive integer", number)
        if mode not in ("max", "min"):
            raise InvalidOptionError("mode", '"max" or "min"', mode)
        self.directory = Path(directory).absolute()
        self.backend, self.save_interval = backend, save_interval
        self.keep, self.keep_every, self.best, self.mode = keep, keep_every, best, mode

    def save(
        self,
        step: int,
        tree: Any,
        *,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        force: bool = False,
    ) -> bool:
        """Save a step; on return it is on the disk, and what need not be kept is gone.

        Args:
          step: number of the step, after all that are there.
          tree: what to save.
          metrics: numbers that belong to the step, for ``best`` and for people.
          metadata: what else to keep, as JSON.
          overwrite: replace the step if it is there, and accept an earlier one than the newest.
          force: save even if ``save_interval`` says no.

        Returns:
          Whether the step was saved.

        Raises:
          StepTakenError: there is a checkpoint of this step or a later one.
          InvalidOptionError: the step is no natural number, or the metric called ``best`` is missing.
        """
        if type(step) is not int or step < 0:
            raise InvalidOptionError("step", "an integer, not negative", step)
        if step % self.save_interval and not force:
            return False
        if self.best is not None and self.best not in (metrics or {}):
            raise InvalidOptionError("metrics", f"the metric {self.best!r}, which decides what is best", metrics)
        newest = self.latest_step()
        if newest is not None and newest >= step and not overwrite:
            raise StepTakenError(str(self.directory), step, newest)
        if self.directory.is_dir():
            clean_leftovers(self.directory)
        path = self.path(step)
        prepare(
            path, tree, backend=self.backend, metadata=metadata, overwrite=overwrite, step=step, metrics=metrics
        ).write()
        self._retire(step)
        return True

    def restore(self, step: int | None = None, target: Any = None) -> Any:
        """Read a step, the newest by default; see `fx_ckpt.restore`.

        Raises:
          NoCheckpointError: there is none.
        """
        return checkpoint.restore(self._existing(step), target)

    def inspect(self, step: int | None = None) -> CheckpointInfo:
        """Say what a step holds, the newest by default; see `fx_ckpt.inspect`.

        Raises:
          NoCheckpointError: there is none.
        """
        return checkpoint.inspect(self._existing(step))

    def all_steps(self) -> list[int]:
        """Give the steps that are there, in order."""
        if not self.directory.is_dir():
            return []
        names = {_visible(name) for name in os.listdir(self.directory)}
        steps = [int(match[1]) for match in map(_NAME.fullmatch, names) if match]
        return sorted(step for step in steps if (settled(self.path(step)) / MANIFEST).exists())

    def latest_step(self) -> int | None:
        """Give the newest step, or None."""
        return max(self.all_steps(), default=None)

    def best_step(self) -> int | None:
        """Give the step with the best metric, the last of equal ones; None if no step has it.

        Raises:
          InvalidOptionError: the manager was made without ``best``.
        """
        if self.best is None:
            raise InvalidOptionError("best", "the name of a metric", None)
        return self._best_of(self.all_steps())

    def path(self, step: int) -> Path:
        """Give the directory of a step."""
        return self.directory / f"step_{step:08d}"

    def wait(self) -> None:
        """Return when everything that `save` took is on the disk; now each save waits for itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.wait()

    def _existing(self, step: int | None) -> Path:
        steps = self.all_steps()
        chosen = steps[-1] if step is None and steps else step
        if chosen not in steps:
            raise NoCheckpointError(str(self.directory), step, steps)
        return self.path(chosen)

    def _retire(self, saved: int) -> None:
        if self.keep is None:
            return
        steps = self.all_steps()
        kept = {saved, *steps[-self.keep :]}
        kept |= {step for step in steps if self.keep_every and step % self.keep_every == 0}
        if self.best is not None and (best := self._best_of(steps)) is not None:
            kept.add(best)
        for step in steps:
            if step not in kept:
                remove_directory(settled(self.path(step)))

    def _best_of(self, steps: list[int]) -> int | None:
        sign = 1 if self.mode == "max" else -1
        scores = [(sign * value, step) for step in steps if (value := self._metric(step)) is not None]
        return max(scores)[1] if scores else None

    def _metric(self, step: int) -> float | None:
        value = checkpoint.inspect(self.path(step)).metrics.get(str(self.best))
        return None if value is None or value != value else value


def _visible(name: str) -> str:
    """Give the name that a directory has, or had before a replacement was interrupted."""
    return name.removeprefix(".").removesuffix(".fx-old") if name.endswith(".fx-old") else name
