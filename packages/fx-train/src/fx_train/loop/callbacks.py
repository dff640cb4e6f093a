"""What a run passes to its callbacks, and the protocol of the things callbacks use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from fx_core.errors import ArgumentError

from fx_train.errors import MetricError


class Progress(Protocol):
    """What a callback sees of the run it belongs to, a `fx_train.Run`.

    Attributes:
      directory: where the run's files belong.
      total_steps: steps of the run in all.
      step: steps recorded so far; `Callback.restore` sets it.
      stop_reason: why the run ends early, if it does.
    """

    directory: Path
    total_steps: int
    step: int
    stop_reason: str | None

    def stop(self, reason: str) -> None:
        """Ends the run after this step."""
        ...

    def settle(self, state: Any = None) -> None:
        """Waits for what callbacks put off, before a state is kept."""
        ...

    def is_changing(self, error: BaseException | None) -> bool:
        """Returns whether, at the end of the run, a step may have begun that was not recorded."""
        ...

    def callback_states(self) -> dict[str, Any]:
        """Returns what the callbacks want to remember, by their names."""
        ...

    def set_callback_states(self, states: Mapping[str, Any]) -> None:
        """Sets the states of the callbacks."""
        ...


class Callback:
    """Base class of callbacks: every method may be overridden, none has to be.

    Callbacks are called in the order of the run's list, those that remember something (`get_state`) before the others;
    at the end in reverse, so that what started first ends last.

    Attributes:
      examines_first: whether `examine` is called before those of other callbacks.
      idle_until: the next step at which there is something to do. A callback that sets it in `examine` or `on_step` is
        not called at the steps before, unless another one adds metrics; 0 when a run starts. A call of a function that
        has left the caches of the processor costs some microseconds, which is time that the device may wait for.

    >>> import tempfile
    >>> import fx_train
    >>> class Print(fx_train.Callback):
    ...     def on_step(self, run, state, metrics):
    ...         print(run.step, metrics["loss"])
    >>> with fx_train.Run(tempfile.mkdtemp(), total_steps=2, callbacks=[Print()]) as run:
    ...     for step, batch in run.steps([None, None]):
    ...         run.record({}, {"loss": 0.5})
    1 0.5
    2 0.5
    """

    examines_first = False
    idle_until = 0

    def on_start(self, run: Progress) -> None:
        """The run begins; nothing is restored yet."""

    def restore(self, run: Progress, state: Any) -> Any:
        """Returns the state to go on from, and set ``run.step`` to the steps it has behind it."""
        return state

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """A step was recorded, before any callback acts on it: raise to keep it from the others, or give more metrics.

        `on_step` of all callbacks gets the step's metrics together with those.
        """
        return None

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """A step was recorded; ``run.step`` counts it. Metrics may still be computing on the device."""

    def settle(self, run: Progress, state: Any) -> None:
        """Finishes what was put off until the device is done: called at the end of the run, and before a state is kept.

        Raise if ``state`` should not be kept; it is None at the end of the run.
        """

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Returns the run ends, with the exception that ended it, if any."""

    def get_state(self) -> Any:
        """Returns what has to survive a resume, as JSON; None for nothing."""
        return None

    def set_state(self, state: Any) -> None:
        """Takes what `get_state` gave before the resume."""


class Checkpointer(Protocol):
    """What keeps checkpoints; `fx_ckpt.CheckpointManager` is one.

    If it has a method ``wait``, that is called at the end of a run: saves may go on in the background until then.
    ``iterators`` are passed only where `Checkpoints` was given some, ``metadata`` where it takes that and callbacks
    have something to remember; ``inspect(step).metadata`` gives it back.
    """

    def save(self, step: int, tree: Any, *, metrics: Mapping[str, float] | None = None) -> Any:
        """Keeps the tree as this step's checkpoint."""
        ...

    def restore(self, step: int | None = None, target: Any = None) -> Any:
        """Reads a step's checkpoint, the newest by default, in the structure of ``target``."""
        ...

    def latest_step(self) -> int | None:
        """Returns the newest step there is."""
        ...


class Cadence:
    """Says when it is time to act: every so many steps, and at the end of the run.

    >>> due = Cadence("Checkpoints", every=2)
    >>> [step for step in range(1, 6) if due(step, total_steps=5)]
    [2, 4, 5]
    >>> due.after(2, total_steps=5), due.after(4, total_steps=5)
    (4, 5)
    """

    def __init__(self, callback: str, every: int):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ArgumentError(
                f"{callback} cannot act every {every!r} steps.", expected="an int of at least 1", got=repr(every)
            )
        self.every = every

    def __call__(self, step: int, total_steps: int) -> bool:
        """Returns whether to act after ``step`` steps."""
        return step % self.every == 0 or step == total_steps

    def after(self, step: int, total_steps: int) -> int:
        """Returns the next step at which to act."""
        following = step - step % self.every + self.every
        return min(following, total_steps) if step < total_steps else following


def as_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Scalars of a metrics mapping as Python floats; waits for the device.

    A metric object counts as what its ``compute()`` gives.

    Raises:
      MetricError: a metric is no single number.
    """
    return {name: _as_float(name, value) for name, value in metrics.items()}


def _as_float(name: str, value: Any) -> float:
    value = value.compute() if hasattr(value, "compute") else value
    number = np.asarray(value) if isinstance(value, jax.Array) else value
    if isinstance(number, np.ndarray | np.generic) and number.size == 1:
        number = number.item()
    try:
        if not isinstance(number, str | bytes):
            return float(number)
    except (TypeError, OverflowError):
        pass
    raise _metric_value(name, value)


def are_ready(tree: Any) -> bool:
    """Returns whether the device has computed all arrays of a tree."""
    arrays = (leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))
    # The stubs of JAX lack it.
    return all(array.is_ready() for array in arrays)  # pyright: ignore[reportAttributeAccessIssue]


def is_writer() -> bool:
    """Returns whether this process writes what one process has to write for all."""
    return jax.process_index() == 0


def _metric_value(name: str, value: object) -> MetricError:
    shape = getattr(value, "shape", None)
    return MetricError(
        f"The metric {name!r} is no single number.",
        expected="a scalar, or a metric object whose compute() gives one",
        got=type(value).__name__ if shape is None else f"an array of shape {shape}",
    )
