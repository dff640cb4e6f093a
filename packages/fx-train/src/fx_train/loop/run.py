"""The loop of a training run, with the user in charge of the body."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fx_core.errors import ArgumentError, ArgumentTypeError

from fx_train.errors import DataEndedError, RunError, RunFileError, metrics_not_mapping
from fx_train.loop.callbacks import Callback

logger = logging.getLogger("fx.train")


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

    However the run ends, by an error, too, each callback is called (`on_end`), so that what was trained is saved.

    Args:
      directory: where callbacks put what belongs to this run; made if absent.
      total_steps: how many steps the run has in all, the ones before a resume included.
      callbacks: see `fx_train.loop.Callback`.

    Raises:
      ArgumentError: ``total_steps`` is no natural number.
      ArgumentTypeError: a callback is none.
    """

    def __init__(self, directory: str | Path, *, total_steps: int, callbacks: Sequence[Callback] = ()):
        if not isinstance(total_steps, int) or isinstance(total_steps, bool) or total_steps < 0:
            raise ArgumentError(
                "A run cannot have that many steps.", expected="an int, not negative", got=repr(total_steps)
            )
        self.directory = Path(directory)
        self.total_steps = total_steps
        self.callbacks = _checked(callbacks)
        self.step = 0
        """Steps recorded so far, the ones before a resume included."""
        self.stop_reason: str | None = None
        """Why the run ends before its last step; None if it does not."""
        self._given: int | None = None
        self._recorded = self._iterates = self._is_open = False
        # Only who listens is called: a callback costs nothing at the events that it does not know.
        examiners = [c for c in self.callbacks if type(c).examine is not Callback.examine]
        self._examiners = sorted(examiners, key=lambda c: not c.examines_first)
        listeners = [c for c in self.callbacks if type(c).on_step is not Callback.on_step]
        # Who has something to remember comes first, so that a checkpoint of a step has what was learnt from it.
        self._listeners = sorted(listeners, key=lambda c: type(c).get_state is Callback.get_state)
        settlers = [c for c in self.callbacks if type(c).settle is not Callback.settle]
        # Who judges a state comes before who only writes about it.
        self._settlers = sorted(settlers, key=lambda c: type(c).examine is Callback.examine)

    def __enter__(self) -> Self:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise _run_directory(str(self.directory), "a file") from None
        except OSError as error:
            raise _run_directory(str(self.directory), str(error)) from error
        started: list[Callback] = []
        try:
            for callback in self.callbacks:
                started.append(callback)
                callback.idle_until = 0
                callback.on_start(self)
        except BaseException as error:
            self._end(started, error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self.callbacks, error)

    def resume(self, state: Any) -> Any:
        """Returns the state to start from: what a callback restores, or ``state`` itself in a fresh run.

        Raises:
          RunError: what is restored has more steps behind it than the run has in all.
          RunError: steps were recorded already.
        """
        if self._recorded:
            raise RunError(
                f"The run cannot resume at step {self.step}.",
                expected="one call of run.resume before the loop",
                got="a call after steps were recorded",
            )
        for callback in self.callbacks:
            state = callback.restore(self, state)
        if not 0 <= self.step <= self.total_steps:
            raise RunError(
                f"The run cannot go on from step {self.step}.",
                expected=f"a checkpoint of step 0 to {self.total_steps}",
                got=f"step {self.step}",
                fix="Raise total_steps, which counts the steps before a resume too, or use another directory.",
            )
        return state

    def steps(self, data: Iterable[Any] | Callable[[int], Iterable[Any]]) -> Iterator[tuple[int, Any]]:
        """Iterates over the remaining steps, until the last one or until `stop` is called.

        Args:
          data: batches, or a function that gives the batches from a step on, which makes a resumed run see the
            batches that the uninterrupted one would have seen. So does an iterator whose position is in the checkpoint
            (`fx_train.Checkpoints`). Of another collection or loader, which begins anew, a resumed run skips as many
            batches as it has steps behind it; an iterator without a position is taken as it is, with a warning.

        Yields:
          The step's index, from 0, and its batch.

        Raises:
          DataEndedError: there are fewer batches than steps.
          ArgumentTypeError: ``data`` is neither iterable nor a function that gives something iterable.
          RunError: the body did not call `record`.
        """
        self._iterates = True
        batches = _iterator(data(self.step) if callable(data) else data)
        if self.step > 0 and not self._recorded and not callable(data):
            batches = _continued(batches, data, self.step)
        first = self.step
        try:
            while (step := self.step) < self.total_steps and self.stop_reason is None:
                try:
                    batch = next(batches)
                except StopIteration:
                    raise _data_ended(step, self.total_steps, empty=step == first) from None
                self._given, self._is_open = step, True
                yield step, batch
                if self.step == step:
                    raise RunError(
                        f"Step {step} was not recorded.",
                        expected="one call of run.record(state, metrics) per step",
                        got="none",
                        fix="Call run.record at the end of the loop's body.",
                    )
            self.settle()
        finally:
            self._given = None

    def record(self, state: Any, metrics: Mapping[str, Any]) -> None:
        """Counts a step and hand its results to the callbacks.

        Nothing here waits for the device: a callback converts metrics when it shows or stores them.

        Raises:
          RunError: the step that `steps` gave last was recorded already.
          RunError: all steps were recorded.
          MetricError: ``metrics`` have no names.
        """
        if self._given is not None and self._given != self.step:
            raise RunError(
                f"Step {self._given} was recorded already.",
                expected="one call of run.record(state, metrics) per step",
                got="two",
            )
        if self.step >= self.total_steps:
            raise RunError(
                "All steps of the run were recorded already.",
                expected=f"{self.total_steps} calls of run.record in all",
                got="one more",
                fix="Loop over run.steps(data), or raise total_steps.",
            )
        if type(metrics) is not dict and not isinstance(metrics, Mapping):
            raise metrics_not_mapping(metrics)
        self.step = step = self.step + 1
        self._recorded, self._is_open, more_metrics = True, False, False
        for callback in self._examiners:
            if callback.idle_until <= step and (more := callback.examine(self, state, metrics)):
                metrics, more_metrics = {**metrics, **more}, True
        for callback in self._listeners:
            if callback.idle_until <= step or more_metrics:
                callback.on_step(self, state, metrics)

    def settle(self, state: Any = None) -> None:
        """Lets callbacks finish what they put off until the device is done; raises what they find.

        `steps` does so when it ends, and `fx_train.Checkpoints` before it saves.

        Args:
          state: a state that is about to be kept, if one is, for callbacks that judge states.
        """
        for callback in self._settlers:
            callback.settle(self, state)

    def is_changing(self, error: BaseException | None) -> bool:
        """Returns whether, at the end of the run, a step may have begun that was not recorded.

        Args:
          error: what ended the run. Of a loop that does not iterate over `steps` it is not known where it was raised.
        """
        return self._is_open if self._iterates else error is not None

    def stop(self, reason: str) -> None:
        """Ends the run after this step; the first reason counts."""
        if self.stop_reason is None:
            logger.info("the run stops after step %d: %s", self.step, reason)
            self.stop_reason = reason

    def callback_states(self) -> dict[str, Any]:
        """Returns what the callbacks want to remember, by class name and position among those of one class."""
        states = {name: callback.get_state() for name, callback in self._named()}
        return {name: state for name, state in states.items() if state is not None}

    def set_callback_states(self, states: Mapping[str, Any]) -> None:
        """Returns the callbacks what they remembered; those that are new in this run start afresh."""
        for name, callback in self._named():
            if name in states:
                callback.set_state(states[name])

    def _named(self) -> Iterator[tuple[str, Callback]]:
        seen: dict[str, int] = {}
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] = seen.get(name, -1) + 1
            yield f"{name}/{seen[name]}", callback

    def _end(self, callbacks: Sequence[Callback], error: BaseException | None) -> None:
        failures: list[BaseException] = []

        def attempt(function: Callable[..., None], *args: Any) -> None:
            try:
                function(self, *args)
            # An interrupt, too, may not keep the others from their end: signals go back, files are closed.
            except BaseException as failure:
                failures.append(failure)

        # After an error other processes may be gone, and the device may never be done.
        for callback in self._settlers if error is None else ():
            attempt(callback.settle, None)
        told = error or next(iter(failures), None)
        for callback in reversed(callbacks):
            attempt(callback.on_end, told)
        # The error that ended the run is the one to see, unless an interrupt came after it; the rest is told beside.
        interrupts = [failure for failure in failures if not isinstance(failure, Exception)]
        raised = interrupts[0] if interrupts else failures[0] if failures and error is None else None
        for failure in failures:
            if failure is not raised:
                note = f"Besides, when the run ended: {type(failure).__name__}: {failure}"
                (raised or error or failure).add_note(note)
                logger.error(note)
        if raised is not None:
            raise raised


def _checked(callbacks: Sequence[Callback]) -> tuple[Callback, ...]:
    if not isinstance(callbacks, Iterable):
        raise _invalid_callback(callbacks)
    for callback in (given := tuple(callbacks)):
        if not isinstance(callback, Callback):
            raise _invalid_callback(callback)
    return given


def _continued(batches: Iterator[Any], data: Any, step: int) -> Iterator[Any]:
    """What follows in the data of a resumed run."""
    if hasattr(batches, "set_state"):
        return batches
    if batches is not data:
        return itertools.islice(batches, step, None)
    logger.warning(
        "The run goes on at step %d with an iterator that does not know its position: its next batch is taken for that "
        "of this step. A function of the step gives the batches that an uninterrupted run would see.",
        step,
    )
    return batches


def _iterator(data: Any) -> Iterator[Any]:
    try:
        return iter(data)
    except TypeError:
        raise ArgumentTypeError(
            "There are no batches in the data of the run.",
            expected="an iterable of batches, or a function of the first step that gives one",
            got=f"{data!r} of type {type(data).__name__}",
        ) from None


def _data_ended(steps: int, total: int, *, empty: bool = False) -> DataEndedError:
    return DataEndedError(
        "The data is empty." if empty else "The data ended before the run did.",
        expected=f"{total} steps",
        got=f"{steps} steps",
        fix="See whether an earlier loop has used up the iterator: a function of the first step makes a new one."
        if empty
        else "Give data that repeats, or set total_steps to what the data has.",
    )


def _invalid_callback(callback: object) -> ArgumentTypeError:
    return ArgumentTypeError(
        "A run cannot call this back.",
        expected="a list of objects of subclasses of fx_train.Callback",
        got=f"the class {callback.__name__}" if isinstance(callback, type) else repr(callback),
    )


def _run_directory(path: str, problem: str) -> RunFileError:
    return RunFileError(
        "A run needs a directory.", path=path, expected="a directory, or a place where one can be made", got=problem
    )
