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

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from fx_core import struct
from fx_core.errors import ArgumentTypeError, UnsupportedOperationError
from fx_core.ops.sums import add_counts, add_sums, count_as_float, merge_moments, split_count

from fx_nnx.errors import NnxError
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
        """Discards what was collected.

        Raises:
          UnsupportedOperationError: the metric does not define it.
        """
        raise _metric_interface(type(self).__name__, "reset")

    def update(self, **kwargs: Any) -> None:
        """Collects the values of one step.

        Raises:
          UnsupportedOperationError: the metric does not define it.
        """
        raise _metric_interface(type(self).__name__, "update")

    def compute(self) -> Any:
        """Returns the summary of what was collected.

        Raises:
          UnsupportedOperationError: the metric does not define it.
        """
        raise _metric_interface(type(self).__name__, "compute")

    def split(self, *filters: Filter) -> tuple[Any, ...]:
        """Takes the metric apart into structure and states, as `fx_nnx.split` does."""
        return split(self, *filters)


class Average(Metric):
    """The mean of all values.

    >>> loss = Average("loss")
    >>> loss.update(loss=jnp.array([1.0, 3.0]))
    >>> loss.update(loss=5.0)
    >>> loss.compute()
    Array(3., dtype=float32)

    The sum keeps about 48 bits and the count 61: ``total_rest`` is what rounding took from ``total``, and
    ``count_units`` how many times 2**30 values were seen besides ``count``.

    Args:
      argname: the keyword argument of `update` that it collects.
    """

    def __init__(self, argname: str = "values"):
        self.argname = argname
        self.total, self.total_rest = _number(), _number()
        self.count, self.count_units = _count(), _count()

    def reset(self) -> None:
        """Discards what was collected."""
        _clear(self.total, self.total_rest, self.count, self.count_units)

    def update(self, mask: jax.Array | None = None, **kwargs: Any) -> None:
        """Collects values.

        Args:
          mask: True for the values that count; broadcasts to them.
          **kwargs: the values, a number or an array of any shape, under the metric's name for them.

        Raises:
          ArgumentTypeError: they are missing.
          NnxError: the mask does not broadcast to them.
        """
        values = jnp.asarray(_named(self, self.argname, kwargs))
        keep = None if mask is None else _mask(self, mask, values.shape)
        total = jnp.sum(values.astype(jnp.float32), where=keep)
        count = values.size if keep is None else jnp.sum(keep)
        _set((self.total, self.total_rest), add_sums(_get(self.total, self.total_rest), (total, jnp.zeros_like(total))))
        _set((self.count, self.count_units), add_counts(_get(self.count, self.count_units), split_count(count)))

    def compute(self) -> jax.Array:
        """Returns the mean; NaN if there are no values."""
        total = self.total.get_value() + self.total_rest.get_value()
        return total / count_as_float(_get(self.count, self.count_units))


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
      ArgumentTypeError: the threshold is no float.
    """

    def __init__(self, threshold: float | None = None, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not (threshold is None or isinstance(threshold, float)):
            raise ArgumentTypeError(
                "Expected threshold to be a float.", expected="a float or None", got=f"{type(threshold)}: {threshold!r}"
            )
        self.threshold = threshold

    def update(self, *, logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None, **_: Any) -> None:  # type: ignore[override]
        """Collects predictions.

        Args:
          logits: shape ``(*batch, classes)``, or ``batch`` with a threshold.
          labels: integers of shape ``batch``.
          mask: True for the predictions that count; broadcasts to ``batch``.
          **_: what other metrics collect.

        Raises:
          NnxError: the shapes do not fit each other, or the labels are not integers.
        """
        threshold = self.threshold
        expected = logits.shape[:-1] if threshold is None else logits.shape
        if labels.shape != expected or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise _metric_input(
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

    What rounding takes from ``mean`` and ``m2`` is kept in ``mean_rest`` and ``m2_rest``; ``count_units`` is how many
    times 2**30 values were seen besides ``count``.

    Args:
      argname: the keyword argument of `update` that it collects.
    """

    def __init__(self, argname: str = "values"):
        self.argname = argname
        self.count, self.count_units = _count(), _count()
        self.mean, self.mean_rest = _number(), _number()
        self.m2, self.m2_rest = _number(), _number()

    def reset(self) -> None:
        """Discards what was collected."""
        _clear(self.count, self.count_units, self.mean, self.mean_rest, self.m2, self.m2_rest)

    def update(self, mask: jax.Array | None = None, **kwargs: Any) -> None:
        """Collects values.

        Args:
          mask: True for the values that count; broadcasts to them.
          **kwargs: the values, a number or an array of any shape, under the metric's name for them.

        Raises:
          ArgumentTypeError: they are missing.
          NnxError: the mask does not broadcast to them.
        """
        values = jnp.asarray(_named(self, self.argname, kwargs), jnp.float32)
        keep = None if mask is None else _mask(self, mask, values.shape)
        size = values.size if keep is None else jnp.sum(keep)
        seen = jnp.maximum(jnp.asarray(size, jnp.float32), 1)  # without any, the sums below are zero
        mean = jnp.sum(values, where=keep) / seen
        zero = jnp.zeros_like(mean)
        count = _get(self.count, self.count_units)
        new = jnp.asarray(size, jnp.float32), (mean, zero), (jnp.sum(jnp.square(values - mean), where=keep), zero)
        old = count_as_float(count), _get(self.mean, self.mean_rest), _get(self.m2, self.m2_rest)
        moved, spread = merge_moments(old, new)
        _set((self.mean, self.mean_rest), moved)
        _set((self.m2, self.m2_rest), spread)
        _set((self.count, self.count_units), add_counts(count, split_count(size)))

    def compute(self) -> Statistics:
        """Returns mean, standard error and standard deviation; the last two are NaN if there are no values."""
        count = count_as_float(_get(self.count, self.count_units))
        deviation = jnp.sqrt((self.m2.get_value() + self.m2_rest.get_value()) / count)
        mean = self.mean.get_value() + self.mean_rest.get_value()
        return Statistics(mean, deviation / jnp.sqrt(count), deviation)


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
                raise ArgumentTypeError(
                    "A MultiMetric is made of metrics by name.",
                    expected="a Metric under a name of its own",
                    got=f"{name}={type(metric).__name__}",
                )
            setattr(self, name, metric)

    def reset(self) -> None:
        """Discards what was collected."""
        for name in self._metric_names:
            getattr(self, name).reset()

    def update(self, *, mask: Any = None, **updates: Any) -> None:
        """Collects the values of one step; all metrics get all of them.

        >>> metrics = MultiMetric(first=Average("a"), second=Average("b"))
        >>> metrics.update(a=jnp.array([1.0, 3.0]), b=jnp.array([1.0, 3.0]), mask={"first": jnp.array([True, False])})
        >>> {name: float(value) for name, value in metrics.compute().items()}
        {'first': 1.0, 'second': 2.0}

        Args:
          mask: as the metrics take it, for all of them; or a dictionary of masks by the names of metrics, which leaves
            metrics without a name in it unmasked.
          **updates: the values.

        Raises:
          ArgumentTypeError: a metric does not find what it collects.
          NnxError: there is a mask for a name that is no metric.
        """
        masks = mask if isinstance(mask, Mapping) else dict.fromkeys(self._metric_names, mask)
        if unknown := sorted(masks.keys() - set(self._metric_names)):
            raise _metric_input(
                type(self).__name__,
                "there are masks for metrics that it has not.",
                expected=f"names among {list(self._metric_names)}",
                got=unknown,
                fix="give masks by the names that the metrics were given by",
            )
        for name in self._metric_names:
            own = {} if masks.get(name) is None else {"mask": masks[name]}
            getattr(self, name).update(**updates, **own)

    def compute(self) -> dict[str, Any]:
        """Returns the summaries by name."""
        return {name: getattr(self, name).compute() for name in self._metric_names}


def _number() -> MetricState:
    return MetricState(jnp.zeros((), jnp.float32))


def _count() -> MetricState:
    return MetricState(jnp.zeros((), jnp.int32))


def _get(one: MetricState, rest: MetricState) -> tuple[jax.Array, jax.Array]:
    return one.get_value(), rest.get_value()


def _set(variables: tuple[MetricState, MetricState], values: tuple[jax.Array, jax.Array]) -> None:
    for variable, value in zip(variables, values):
        variable[...] = value


def _clear(*variables: MetricState) -> None:
    for variable in variables:
        variable[...] = jnp.zeros_like(variable.get_value())


def _named(metric: Metric, name: str, values: dict[str, Any]) -> Any:
    if name not in values:
        raise ArgumentTypeError(
            f"Expected keyword argument {name!r} for {type(metric).__name__}.",
            expected=f"{name}=...",
            got=f"the arguments {sorted(values)}",
            fix=f"pass {name}=..., or make the metric for another argument",
        )
    return values[name]


def _mask(metric: Metric, mask: Any, shape: tuple[int, ...]) -> jax.Array:
    mask = jnp.asarray(mask, bool)
    fits = mask.ndim <= len(shape) and all(a in (1, b) for a, b in zip(mask.shape[::-1], shape[::-1]))
    if not fits:
        raise _metric_input(
            type(metric).__name__,
            "the mask does not fit the values.",
            expected=f"a mask that broadcasts to {shape}",
            got=mask.shape,
            fix="give one True or False per value",
        )
    return jnp.broadcast_to(mask, shape)


def _metric_input(metric: str, what: str, *, expected: Any, got: Any, fix: str) -> NnxError:
    return NnxError(f"{metric}: {what}", expected=expected, got=got, fix=fix)


def _metric_interface(metric: str, missing: str) -> UnsupportedOperationError:
    return UnsupportedOperationError(
        f"{metric} cannot be used as a metric.",
        expected="update(**kwargs), compute(), reset()",
        got=f"no {missing}",
        fix=f"define {missing} in {metric}",
    )
