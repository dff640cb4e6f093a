"""Measurements beside training."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from fx_train.errors import invalid_callback_option, metrics_not_mapping
from fx_train.loop.callbacks import Cadence, Callback, Progress


class Evaluate(Callback):
    """Measures the state every so many steps and at the end, and adds the results to the step's metrics.

    So loggers, checkpoints (``best="eval/accuracy"``) and `StopEarly` see them like all others.

    >>> evaluate = Evaluate(lambda state: {"loss": state - 1.0}, every=10)

    Args:
      measure: gives metrics for a state: numbers, scalars or metric objects (`fx_train.metrics`), by name.
      every: steps between two measurements.
      prefix: what comes before the names.

    Raises:
      ArgumentError: ``measure`` is no function.
      MetricError: in `Run.record`, when it gives no metrics by name.
    """

    def __init__(self, measure: Callable[[Any], Mapping[str, Any]], *, every: int, prefix: str = "eval/"):
        self._measure, self._prefix = measure, prefix
        self._due = Cadence("Evaluate", every)
        if not callable(measure):
            raise invalid_callback_option("Evaluate", "measure", "a function of the state", measure)

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Measures when it is time."""
        self.idle_until = self._due.after(run.step, run.total_steps)
        if not self._due(run.step, run.total_steps):
            return None
        measured = self._measure(state)
        if not isinstance(measured, Mapping):
            raise metrics_not_mapping(measured)
        return {self._prefix + name: value for name, value in measured.items()}


class Throughput(Callback):
    """Adds ``steps_per_second``, and ``examples_per_second`` if it knows the batch, every so many steps.

    The first step compiles, so the clock starts after it. The time of evaluations and checkpoints counts.

    Args:
      every: steps between two measurements, over which the rate is taken; they wait for the device.
      batch: examples per step.

    Raises:
      ArgumentError: ``batch`` is not positive.

    >>> import tempfile
    >>> import fx_train
    >>> class Show(fx_train.Callback):
    ...     def on_step(self, run, state, metrics):
    ...         print(run.step, sorted(metrics))
    >>> callbacks = [fx_train.Throughput(every=1, batch=8), Show()]
    >>> with fx_train.Run(tempfile.mkdtemp(), total_steps=2, callbacks=callbacks) as run:
    ...     for step, batch in run.steps([None, None]):
    ...         run.record({}, {"loss": 0.5})
    1 ['loss']
    2 ['examples_per_second', 'loss', 'steps_per_second']
    """

    def __init__(self, *, every: int, batch: int | None = None):
        self._due, self._batch = Cadence("Throughput", every), batch
        if batch is not None and (type(batch) is not int or batch < 1):
            raise invalid_callback_option("Throughput", "batch", "a number of examples, at least 1", batch)
        self._since: tuple[int, float] | None = None

    def on_start(self, run: Progress) -> None:
        """Discards an earlier run."""
        self._since = None

    def examine(self, run: Progress, state: Any, metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Measures when it is time."""
        self.idle_until = self._due.after(run.step, run.total_steps)
        if self._since is not None and not self._due(run.step, run.total_steps):
            return None
        jax.block_until_ready(dict(metrics))
        now, before = time.perf_counter(), self._since
        self._since = run.step, now
        if before is None:
            return None
        rate = (run.step - before[0]) / max(now - before[1], 1e-9)
        return {"steps_per_second": rate, **({"examples_per_second": rate * self._batch} if self._batch else {})}
