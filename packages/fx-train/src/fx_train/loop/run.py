"""The loop of a training run, with the user in charge of the body."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fx_train.errors import DataEndedError, StepNotRecordedError
from fx_train.loop.callbacks import Callback


class Run:
    """Counts the steps of a training run and keeps its callbacks informed.

    The loop's body stays the user's. What repeats from project to project (progress, checkpoints and resume, logs) is
    in callbacks, of which none is required.

    >>> import tempfile
    >>> def batches_from(step):
    ...     return iter(range(step, 100))
    >>> with Run(tempfile.mkdtemp(), total_steps=3) as run:
    ...     total = run.resume(0)
    ...     for step, batch in run.steps(batches_from):
    ...         total = total + batch
    ...         run.record(total, {"total": total})
    >>> total, run.step
    (3, 3)

    Args:
      directory: where callbacks put what belongs to this run; made if absent.
      total_steps: how many steps the run has in all, the ones before a resume included.
      callbacks: see `fx_train.loop.Callback`.
    """

    def __init__(self, directory: str | Path, *, total_steps: int, callbacks: Sequence[Callback] = ()):
        self.directory = Path(directory)
        self.total_steps = total_steps
        self.callbacks = tuple(callbacks)
        self.step = 0
        """Steps recorded so far, the ones before a resume included."""

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        for callback in self.callbacks:
            callback.on_start(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for callback in reversed(self.callbacks):
            callback.on_end(self, error)

    def resume(self, state: Any) -> Any:
        """Give the state to start from: what a callback restores, or ``state`` itself in a fresh run."""
        for callback in self.callbacks:
            state = callback.restore(self, state)
        return state

    def steps(self, data: Iterable[Any] | Callable[[int], Iterable[Any]]) -> Iterator[tuple[int, Any]]:
        """Iterate over the remaining steps.

        Args:
          data: batches, or a function that gives the batches from a step on. Only the function makes a resumed run
            see the batches that the uninterrupted one would have seen.

        Yields:
          The step's index, from 0, and its batch.

        Raises:
          DataEndedError: there are fewer batches than steps.
          StepNotRecordedError: the body did not call `record`.
        """
        batches = iter(data(self.step) if callable(data) else data)
        while (step := self.step) < self.total_steps:
            try:
                batch = next(batches)
            except StopIteration:
                raise DataEndedError(step, self.total_steps) from None
            yield step, batch
            if self.step == step:
                raise StepNotRecordedError(step)

    def record(self, state: Any, metrics: Mapping[str, Any]) -> None:
        """Count a step and hand its results to the callbacks.

        Nothing here waits for the device: a callback converts metrics when it shows or stores them.
        """
        self.step += 1
        for callback in self.callbacks:
            callback.on_step(self, state, metrics)
