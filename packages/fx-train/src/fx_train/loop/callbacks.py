"""What a run tells its callbacks, and the protocol of the things callbacks use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from fx_train.errors import InvalidCadenceError


class Progress(Protocol):
    """What a callback sees of the run it belongs to, a `fx_train.Run`.

    Attributes:
      directory: where the run's files belong.
      total_steps: steps of the run in all.
      step: steps recorded so far; `Callback.restore` sets it.
    """

    directory: Path
    total_steps: int
    step: int


class Callback:
    """Base class of callbacks: every method may be overridden, none has to be.

    Callbacks are called in the order of the run's list; at the end in reverse, so that what started first ends last.
    """

    def on_start(self, run: Progress) -> None:
        """The run begins; nothing is restored yet."""

    def restore(self, run: Progress, state: Any) -> Any:
        """Give the state to go on from, and set ``run.step`` to the steps it has behind it."""
        return state

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """A step was recorded; ``run.step`` counts it. Metrics may still be computing on the device."""

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """The run ends, with the exception that ended it, if any."""


class Checkpointer(Protocol):
    """What keeps checkpoints; `fx_ckpt.CheckpointManager` is one."""

    def save(self, step: int, tree: Any, *, metrics: Mapping[str, float] | None = None) -> Any:
        """Keep the tree as this step's checkpoint."""
        ...

    def restore(self, step: int | None = None, *, target: Any = None) -> Any:
        """Read a step's checkpoint, the newest by default, in the structure of ``target``."""
        ...

    def latest_step(self) -> int | None:
        """The newest step there is."""
        ...


class Cadence:
    """Says when it is time to act: every so many steps, and at the end of the run.

    >>> due = Cadence("Checkpoints", every=2)
    >>> [step for step in range(1, 6) if due(step, total_steps=5)]
    [2, 4, 5]
    """

    def __init__(self, callback: str, every: int):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise InvalidCadenceError(callback, every)
        self.every = every

    def __call__(self, step: int, total_steps: int) -> bool:
        """Whether to act after ``step`` steps."""
        return step % self.every == 0 or step == total_steps


def as_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Scalars of a metrics mapping as Python floats; waits for the device."""
    return {name: float(value) for name, value in metrics.items()}
