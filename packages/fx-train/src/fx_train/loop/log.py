"""Metrics to a logger that is found by name."""

from collections.abc import Mapping
from typing import Any

from fx_core.plugins import MetricLogger, registry

from fx_train.loop.callbacks import Cadence, Callback, Progress, as_floats, is_writer


class Log(Callback):
    """Hands metrics to a logger: of every so many steps, and those that `Evaluate` adds whenever it does.

    With several processes, the first one logs.

    Args:
      logger: name of a registered logger, such as ``"jsonl"``, ``"csv"``, ``"console"`` or ``"tensorboard"``; its class
        is called with the run's directory.
      every: steps between two entries.
    """

    def __init__(self, logger: str = "jsonl", *, every: int):
        self._name = logger
        self._due = Cadence("Log", every)
        self._logger: MetricLogger | None = None
        self._usual: set[str] | None = None

    def on_start(self, run: Progress) -> None:
        """Open the logger in the run's directory."""
        if is_writer():
            self._logger = registry().loggers[self._name].load()(run.directory)

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Log when it is time."""
        if self._logger is None:
            return
        if self._usual is None:
            self._usual = set(metrics)
        if self._due(run.step, run.total_steps):
            self._logger.log(run.step, as_floats(metrics))
        elif len(metrics) > len(self._usual):
            more = {name: value for name, value in metrics.items() if name not in self._usual}
            self._logger.log(run.step, as_floats(more))

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Close the logger."""
        if self._logger is not None:
            self._logger.close()
            self._logger = None
