"""Ends of a run before its last step."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fx_core.errors import ArgumentError

from fx_train.early_stopping import EarlyStopping
from fx_train.errors import MetricError, RunError, invalid_callback_option
from fx_train.loop.callbacks import Callback, Progress, as_floats

_TWICE = 1.0
"""Seconds in which a signal that comes again is the same one."""


class StopEarly(Callback):
    """Stops the run when a metric no longer improves.

    It looks at the steps that have the metric: put `Evaluate` into the run to stop by a metric of held-out data. What
    it has seen survives a resume.

    Args:
      metric: name of the metric.
      mode: whether the metric should fall (``"min"``) or rise (``"max"``).
      patience: how many measurements without improvement are forgiven.
      min_delta: an improvement must be larger than this.

    Raises:
      ArgumentError: ``mode`` is another word.
      ArgumentError: ``patience`` or ``min_delta`` is negative.
      MetricError: at the end of the run, when no step had the metric and nothing stopped the run before.

    >>> import tempfile
    >>> import fx_train
    >>> with fx_train.Run(tempfile.mkdtemp(), total_steps=9, callbacks=[fx_train.StopEarly("loss", patience=1)]) as run:
    ...     for step, loss in run.steps([1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]):
    ...         run.record({}, {"loss": loss})
    >>> run.step, run.stop_reason
    (4, 'loss has not improved 2 times; its best is 0.5')
    """

    def __init__(self, metric: str, *, mode: Literal["min", "max"] = "min", patience: int = 0, min_delta: float = 0.0):
        if mode not in ("min", "max"):
            raise ArgumentError("The metric has no direction.", expected='"min" or "max"', got=repr(mode))
        if type(patience) is not int or patience < 0:
            raise invalid_callback_option("StopEarly", "patience", "a number of measurements, at least 0", patience)
        if not min_delta >= 0:
            raise invalid_callback_option("StopEarly", "min_delta", "a difference, at least 0", min_delta)
        self.metric, self._sign = metric, 1 if mode == "min" else -1
        self.stopping = EarlyStopping(min_delta=min_delta, patience=patience)
        self._seen: set[str] = set()

    def on_start(self, run: Progress) -> None:
        """Discards an earlier run."""
        self.stopping, self._seen = self.stopping.reset(), set()

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Looks at the metric, if this step has it."""
        if self.metric not in metrics:
            self._seen |= set(metrics)
            return
        self._seen.add(self.metric)
        value = as_floats({self.metric: metrics[self.metric]})[self.metric]
        self.stopping = self.stopping.update(self._sign * value)
        if self.stopping.should_stop:
            best = self._sign * self.stopping.best_metric
            known = "it was never a number" if math.isinf(best) else f"its best is {best:g}"
            run.stop(f"{self.metric} has not improved {self.stopping.patience_count} times; {known}")

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Complains about a metric that never came, unless something stopped the run before it could."""
        if error is not None or run.stop_reason is not None:
            return
        if self._seen and self.metric not in self._seen and math.isinf(self.stopping.best_metric):
            raise MetricError(
                f"No step had the metric {self.metric!r}.",
                expected=f"one of {', '.join(sorted(self._seen))}",
                got=self.metric,
            )

    def get_state(self) -> Any:
        """Best value and count."""
        return {"best": self.stopping.best_metric, "count": self.stopping.patience_count}

    def set_state(self, state: Any) -> None:
        """Go on counting."""
        self.stopping = self.stopping.replace(best_metric=state["best"], patience_count=state["count"])


class StopOnSignal(Callback):
    """Ends the run after the present step when a signal asks for it, so that checkpoints are written.

    A second signal ends it at once, by `KeyboardInterrupt`. With several processes each step asks whether any of them
    got the signal, every ``every`` steps, so that all stop after the same one.

    The program goes on behind the run, where ``run.stop_reason`` says that it was stopped, and may end with the status
    0. Kubernetes and other schedulers take that for the job being done, and do not start it again elsewhere: prevent
    that with ``exit_status=143``.

    Args:
      signals: names of the signals.
      every: steps between two agreements of several processes; one process alone needs none.
      exit_status: end the program with this status, by `SystemExit`, when everything is saved; None leaves its end to
        the program.

    Raises:
      SystemExit: at the end of a run that a signal stopped, if there is an ``exit_status``.
      RunError: the run is not in the main thread, where alone Python takes signals.

    >>> import signal, tempfile
    >>> import fx_train
    >>> with fx_train.Run(tempfile.mkdtemp(), total_steps=9, callbacks=[fx_train.StopOnSignal()]) as run:
    ...     for step, batch in run.steps([None] * 9):
    ...         if step == 2:
    ...             signal.raise_signal(signal.SIGTERM)
    ...         run.record({}, {})
    >>> run.step
    3
    """

    def __init__(
        self, signals: Sequence[str] = ("SIGINT", "SIGTERM"), *, every: int = 10, exit_status: int | None = None
    ):
        self._signals = [getattr(signal, name) for name in signals]
        self._every, self._exit_status = every, exit_status
        self._former: dict[int, Any] = {}
        self._got: str | None = None
        self._when = 0.0
        self._stopped = False
        self._alone = True

    def on_start(self, run: Progress) -> None:
        """Takes the signals."""
        if threading.current_thread() is not threading.main_thread():
            raise RunError(
                "StopOnSignal works in the main thread only.",
                fix="Leave the callback out, and call run.stop(reason) from a callback of your own.",
            )
        from fx_train.distributed import process_count

        self._got, self._stopped, self._alone = None, False, process_count() == 1
        # One process alone has nothing to do before a signal comes.
        self.idle_until = sys.maxsize if self._alone else 0
        # Who ends all processes sends a signal to them and to their launcher, which passes it on: they get one twice.
        twice = _TWICE if "FX_ATTEMPT" in os.environ else 0.0

        def handle(number: int, frame: Any) -> None:
            name = signal.Signals(number).name
            if self._got is None:
                self._got, self._when = name, time.monotonic()
                self.idle_until = 0
            elif time.monotonic() - self._when >= twice:
                raise KeyboardInterrupt(f"{name} for the second time")

        self._former = {number: signal.signal(number, handle) for number in self._signals}

    def on_step(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> None:
        """Stops if a signal came."""
        if self._alone:
            if self._got is not None:
                self._stop(run, f"got {self._got}")
        elif run.step % self._every == 0:
            from fx_train.distributed import any_process

            if any_process(self._got is not None):
                self._stop(run, f"got {self._got or 'a signal in another process'}")

    def _stop(self, run: Progress, reason: str) -> None:
        self._stopped = run.stop_reason is None
        run.stop(reason)

    def on_end(self, run: Progress, error: BaseException | None) -> None:
        """Returns the signals back to who had them, and end the program if that is wanted."""
        for number, former in self._former.items():
            signal.signal(number, former)
        self._former = {}
        if self._stopped and error is None and self._exit_status is not None and run.step < run.total_steps:
            raise SystemExit(self._exit_status)
