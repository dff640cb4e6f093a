"""Metrics to a logger that is found by name."""

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax
from fx_core.plugins import MetricLogger, registry

from fx_train.loop.callbacks import Cadence, Callback, Progress, are_ready, as_floats, is_writer

logger = logging.getLogger("fx.train")

_PATIENCE = 10.0


class Log(Callback):
    """Hands metrics to a logger: of every so many steps, and those that `Evaluate` adds whenever it does.

    With several processes, the first one logs. It does not wait for the device: metrics that are being computed are
    logged at a later step, in order, and at the latest before a checkpoint and at the end of the run.

    Args:
      logger: name of a registered logger, such as ``"jsonl"``, ``"csv"``, ``"console"`` or ``"tensorboard"``; its class
        is called with the run's directory.
      every: steps between two entries.

    >>> import pathlib, tempfile
    >>> import fx_train
    >>> with fx_train.Run(tempfile.mkdtemp(), total_steps=2, callbacks=[fx_train.Log("csv", every=1)]) as run:
    ...     for step, batch in run.steps([None, None]):
    ...         run.record({}, {"loss": 0.5})
    >>> sorted(path.name for path in pathlib.Path(run.directory).iterdir())
    ['metrics.csv']
    """

    examines_first = True

    def __init__(self, logger: str = "jsonl", *, every: int):
        self._name = logger
        self._due = Cadence("Log", every)
        self._logger: MetricLogger | None = None
        self._usual: set[str] | None = None
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque()

    def on_start(self, run: Progress) -> None:
        """Opens the logger in the run's directory."""
        self._usual = None
        if is_writer():
            self._logger = registry().loggers[self._name].load()(run.directory)

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Knows what the steps record themselves, before others add what they measured."""
        if self._usual is None:
            self._usual = set(metrics)

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Logs when it is time."""
        if self._logger is None:
            return
        usual = set(metrics) if self._usual is None else self._usual
        entry = None
        if self._due(run.step, run.total_steps):
            entry = dict(metrics)
        elif len(metrics) > len(usual):
            entry = {name: value for name, value in metrics.items() if name not in usual}
        if entry is not None:
            self._waiting.append((run.step, entry))
        while self._waiting and are_ready(self._waiting[0][1]):
            self._log_first()
        self.idle_until = run.step + 1 if self._waiting else self._due.after(run.step, run.total_steps)

    def settle(self, run: Progress, state: Any) -> None:
        """Logs what waits."""
        while self._waiting:
            self._log_first()

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Logs what waits, and closes the logger."""
        if self._logger is None:
            return
        try:
            if error is None or jax.process_count() == 1 or _come_soon(self._waiting):
                self.settle(run, None)
            else:
                steps = ", ".join(str(step) for step, _ in self._waiting)
                logger.warning("Metrics of steps %s are not logged: they wait for processes that ended.", steps)
        finally:
            self._waiting.clear()
            self._logger.close()
            self._logger = None

    def _log_first(self) -> None:
        step, entry = self._waiting.popleft()
        assert self._logger is not None
        self._logger.log(step, as_floats(entry))


def _come_soon(entries: Any) -> bool:
    """Whether the device is done with all entries within some seconds."""
    deadline = time.monotonic() + _PATIENCE
    while not (ready := are_ready([entry for _, entry in entries])) and time.monotonic() < deadline:
        time.sleep(0.05)
    return ready
