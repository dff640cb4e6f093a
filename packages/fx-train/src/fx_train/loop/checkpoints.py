"""Checkpoints and resume as a callback."""

from collections.abc import Mapping
from typing import Any

from fx_train.loop.callbacks import Cadence, Callback, Checkpointer, Progress, as_floats


class Checkpoints(Callback):
    """Saves the state every so many steps and at the end, and goes on from the newest one.

    ::

      checkpoints = Checkpoints(CheckpointManager(directory / "checkpoints"), every=100)
      with Run(directory, total_steps=1000, callbacks=[checkpoints]) as run:
        state = run.resume(state)

    Args:
      manager: what keeps them, such as `fx_ckpt.CheckpointManager`.
      every: steps between two checkpoints.
    """

    def __init__(self, manager: Checkpointer, *, every: int):
        self.manager = manager
        self._due = Cadence("Checkpoints", every)

    def restore(self, run: Progress, state: Any) -> Any:
        """Read the newest checkpoint, if there is one, in the structure of ``state``."""
        step = self.manager.latest_step()
        if step is None:
            return state
        run.step = step
        return self.manager.restore(step, target=state)

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Save when it is time."""
        if self._due(run.step, run.total_steps):
            self.manager.save(run.step, state, metrics=as_floats(metrics))
