"""Metrics as pytrees: they merge, stream, go through `jax.jit` and are reduced across devices.

    >>> import jax.numpy as jnp
    >>> seen = Accuracy.empty()
    >>> for labels, predictions in [(jnp.array([0, 1]), jnp.array([0, 0])), (jnp.array([2]), jnp.array([2]))]:
    ...     seen = seen.update(labels=labels, predictions=predictions)
    >>> round(float(seen.compute()), 3)
    0.667

Each has ``empty()``, ``update(...)``, ``merge(other)``, ``reduce(axis_name)`` for mapped axes, and ``compute()``.
"""

from fx_train.metrics.averages import Mean, Perplexity, Welford
from fx_train.metrics.base import Metric
from fx_train.metrics.classification import Accuracy, Confusion, PrecisionRecall, TopK
from fx_train.metrics.counts import Count

__all__ = ["Accuracy", "Confusion", "Count", "Mean", "Metric", "Perplexity", "PrecisionRecall", "TopK", "Welford"]
