"""Metrics: running summaries of what a training loop sees, kept in variables, so that they work inside transforms.

::

    metrics = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy(), loss=nnx.metrics.Average("loss"))

    @nnx.jit
    def eval_step(model, metrics, x, y):
        logits = model(x)
        metrics.update(loss=cross_entropy(logits, y), logits=logits, labels=y)

    metrics.compute()     # {'accuracy': ..., 'loss': ...}
    metrics.reset()
"""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core import struct
from fx_core.errors.nnx_layers import MetricInputError, MetricInterfaceError, MetricUpdateError

from fx_nnx.filters import Filter
from fx_nnx.graph.functions import split
from fx_nnx.objects.pytree import Pytree
from fx_nnx.variables.variable import Variable

__all__ = ["Accuracy", "Average", "Metric", "MetricState", "MultiMetric", "Statistics", "Welford"]


class MetricState(Variable[Any]):
    """What a metric has collected."""


class Metric(Pytree):
    """Base class of metrics: `update` collects, `compute` gives the summary, `reset` forgets.

    >>> class Largest(Metric):
    ...     def __init__(self):
    ...         self.largest = MetricState(jnp.array(-jnp.inf))
    ...     def reset(self):
    ...         self.largest[...] = jnp.array(-jnp.inf)
    ...     def update(self, *, values, **_):
    ...         self.largest[...] = jnp.maximum(self.largest, jnp.max(values))
    ...     def compute(self):
    ...         return self.largest[...]
    >>> metric = Largest()
    >>> metric.update(values=jnp.array([1.0, 3.0]))
    >>> metric.compute()
    Array(3., dtype=float32)
    """

    def reset(self) -> None:
        """Forget what was collected.

        Raises:
          MetricInterfaceError: the metric does not define it.
        """
        raise MetricInterfaceError(type(self).__name__, "reset")

    def update(self, **kwargs: Any) -> None:
        """Collect the values of one step.

        Raises:
          MetricInterfaceError: the metric does not define it.
        """
        raise MetricInterfaceError(type(self).__name__, "update")

    def compute(self) -> Any:
        """Give the summary of what was collected.

        Raises:
          MetricInterfaceError: the metric does not define it.
        """
        raise MetricInterfaceError(type(self).__name__, "compute")

    def split(self, *filters: Filter) -> tuple[Any, ...]:
        """Take the metric apart into structure and states, as `fx_nnx.split` does."""
        return split(self, *filters)


class Average(Metric):
    """The mean of all values.

    >>> loss = Average("loss")
    >>> loss.update(loss=jnp.array([1.0, 3.0]))
    >>> loss.update(loss=5.0)
    >>> loss.compute()
    Array(3., dtype=float32)

    Args:
      argname: the keyword argument of `update` that it collects.
    """

    def __init__(self, argname: str = "values"):
        self.argname = argname
        self.total, self.count = MetricState(jnp.zeros((), jnp.float32)), MetricState(jnp.zeros((), jnp.int32))

    def reset(self) -> None:
        """Forget what was collected."""
        self.total[...] = jnp.zeros((), jnp.float32)
        self.count[...] = jnp.zeros((), jnp.int32)

    def update(self, mask: jax.Array | None = None, **kwargs: Any) -> None:
        """Collect values.

        Args:
          mask: True for the values that count; broadcasts to them.
          **kwargs: the values, a number or an array of any shape, under the metric's name for them.

        Raises:
          MetricUpdateError: they are missing.
          MetricInputError: the mask does not broadcast to them.
        """
        values = jnp.asarray(_named(self, self.argname, kwargs))
        keep = None if mask is None else _mask(self, mask, values.shape)
        total = jnp.sum(values.astype(jnp.float32), where=keep)
        count = values.size if keep is None else jnp.sum(keep)
        self.total[...] = self.total.get_value() + total
        self.count[...] = self.count.get_value() + jnp.asarray(count, jnp.int32)

    def compute(self) -> jax.Array:
        """Give the mean; NaN if there are no values."""
        return self.total.get_value() / self.count.get_value()


class Accuracy(Average):
    """The part of predictions that are right.

    >>> accuracy = Accuracy()
    >>> accuracy.update(logits=jnp.array([[1.0, 2.0], [3.0, 1.0]]), labels=jnp.array([1, 1]))
    >>> accuracy.compute()
    Array(0.5, dtype=float32)

    Args:
      threshold: for binary classification, the logit above which a prediction is 1; None for several classes.
      *args: arguments of `Average`.
      **kwargs: arguments of `Average`.

    Raises:
      TypeError: the threshold is no float.
    """

    def __init__(self, threshold: float | None = None, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not (threshold is None or isinstance(threshold, float)):
            raise TypeError(f"Expected threshold to be a float, got {type(threshold)}: {threshold!r}")
        self.threshold = threshold

    def update(self, *, logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None, **_: Any) -> None:  # type: ignore[override]
        """Collect predictions.

        Args:
          logits: shape ``(*batch, classes)``, or ``batch`` with a threshold.
          labels: integers of shape ``batch``.
          mask: True for the predictions that count; broadcasts to ``batch``.
          **_: what other metrics collect.

        Raises:
          MetricInputError: the shapes do not fit each other, or the labels are not integers.
        """
        threshold = self.threshold
        expected = logits.shape[:-1] if threshold is None else logits.shape
        if labels.shape != expected or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise MetricInputError(
                "Accuracy",
                "labels and logits do not fit each other.",
                expected=f"integer labels of shape {expected}, for logits of shape {logits.shape}",
                got=f"{labels.dtype} labels of shape {labels.shape}",
                fix="give class numbers, not one-hot vectors; threshold=... is for binary classification",
            )
        predicted = jnp.argmax(logits, -1) if threshold is None else logits > threshold
        super().update(mask=mask, **{self.argname: predicted == labels})


@struct.dataclass
class Statistics:
    """What `Welford` computes.

    Attributes:
      mean: the mean.
      standard_error_of_mean: how far it may be from the true one.
      standard_deviation: how far the values are from it.
    """

    mean: Any
    standard_error_of_mean: Any
    standard_deviation: Any


class Welford(Metric):
    """Mean and spread of all values, by a method that does not lose digits.

    Welford, Note on a Method for Calculating Corrected Sums of Squares and Products, 1962; for several values at a
    time Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.

    >>> loss = Welford("loss")
    >>> loss.update(loss=jnp.array([1.0, 2.0, 3.0, 4.0]))
    >>> stats = loss.compute()
    >>> float(stats.mean), round(float(stats.standard_deviation), 3), round(float(stats.standard_error_of_mean), 3)
    (2.5, 1.118, 0.559)

    Args:
      argname: the keyword argument of `update` that it collects.
    """

    def __init__(self, argname: str = "values"):
        self.argname = argname
        self.count = MetricState(jnp.zeros((), jnp.int32))
        self.mean, self.m2 = MetricState(jnp.zeros((), jnp.float32)), MetricState(jnp.zeros((), jnp.float32))

    def reset(self) -> None:
        """Forget what was collected."""
        self.count[...] = jnp.zeros((), jnp.int32)
        self.mean[...] = jnp.zeros((), jnp.float32)
        self.m2[...] = jnp.zeros((), jnp.float32)

    def update(self, **kwargs: Any) -> None:
        """Collect values: a number or an array of any shape, under the metric's name for them.

        Raises:
          MetricUpdateError: they are missing.
        """
        values = jnp.asarray(_named(self, self.argname, kwargs), jnp.float32)
        if not values.size:
            return
        old, size = self.count.get_value(), values.size
        count = old + size
        mean = jnp.mean(values)
        delta = mean - self.mean.get_value()
        spread = jnp.sum(jnp.square(values - mean)) + delta * delta * old * size / count
        self.m2[...] = self.m2.get_value() + spread
        self.mean[...] = self.mean.get_value() + delta * size / count
        self.count[...] = count

    def compute(self) -> Statistics:
        """Give mean, standard error and standard deviation; the last two are NaN if there are no values."""
        count = self.count.get_value()
        variance = self.m2.get_value() / count
        deviation = jnp.sqrt(variance)
        return Statistics(self.mean.get_value(), deviation / jnp.sqrt(count), deviation)


class MultiMetric(Metric):
    """Several metrics that are updated together; each takes what it collects out of the arguments.

    >>> metrics = MultiMetric(accuracy=Accuracy(), loss=Average("loss"))
    >>> metrics.update(loss=jnp.array([0.5]), logits=jnp.array([[1.0, 2.0]]), labels=jnp.array([1]))
    >>> {name: float(value) for name, value in metrics.compute().items()}
    {'accuracy': 1.0, 'loss': 0.5}

    Args:
      **metrics: the metrics by name, under which they are also attributes.

    Raises:
      TypeError: something is no metric, or has the name of a method.
    """

    def __init__(self, **metrics: Metric):
        self._metric_names = tuple(metrics)
        for name, metric in metrics.items():
            if not isinstance(metric, Metric) or hasattr(type(self), name):
                raise TypeError(f"MultiMetric: expected a Metric under a name of its own, got {name}={metric!r}")
            setattr(self, name, metric)

    def reset(self) -> None:
        """Forget what was collected."""
        for name in self._metric_names:
            getattr(self, name).reset()

    def update(self, **updates: Any) -> None:
        """Collect the values of one step; all metrics get all of them.

        Raises:
          MetricUpdateError: a metric does not find what it collects.
        """
        for name in self._metric_names:
            getattr(self, name).update(**updates)

    def compute(self) -> dict[str, Any]:
        """Give the summaries by name."""
        return {name: getattr(self, name).compute() for name in self._metric_names}


def _named(metric: Metric, name: str, values: dict[str, Any]) -> Any:
    if name not in values:
        raise MetricUpdateError(type(metric).__name__, name, values)
    return values[name]


def _mask(metric: Metric, mask: Any, shape: tuple[int, ...]) -> jax.Array:
    mask = jnp.asarray(mask, bool)
    fits = mask.ndim <= len(shape) and all(a in (1, b) for a, b in zip(mask.shape[::-1], shape[::-1]))
    if not fits:
        raise MetricInputError(
            type(metric).__name__,
            "the mask does not fit the values.",
            expected=f"a mask that broadcasts to {shape}",
            got=mask.shape,
            fix="give one True or False per value",
        )
    return jnp.broadcast_to(mask, shape)
