"""Metrics as pytrees: they merge, stream and go through `jax.jit`."""

from typing import Self

import jax
import jax.numpy as jnp
from fx_core import struct


class Mean(struct.PyTreeNode):
    """A weighted mean.

    >>> import jax.numpy as jnp
    >>> mean = Mean.empty().update(jnp.array([1.0, 2.0])).update(jnp.array(6.0))
    >>> float(mean.compute())
    3.0

    Attributes:
      total: weighted sum so far, a float32 scalar.
      weight: sum of the weights, a float32 scalar.
    """

    total: jax.Array
    weight: jax.Array

    @classmethod
    def empty(cls) -> Self:
        """The mean of nothing yet."""
        return cls(total=jnp.zeros(()), weight=jnp.zeros(()))

    def update(self, values: jax.Array, weights: jax.Array | None = None) -> Self:
        """Take values of any shape, with weights of the same shape (1 by default)."""
        weights = jnp.ones_like(values) if weights is None else weights
        return self.merge(self.replace(total=jnp.sum(values * weights), weight=jnp.sum(weights)))

    def merge(self, other: Self) -> Self:
        """The mean over what both have seen."""
        return self.replace(total=self.total + other.total, weight=self.weight + other.weight)

    def compute(self) -> jax.Array:
        """The mean; NaN when nothing was seen."""
        return self.total / self.weight


class Confusion(struct.PyTreeNode):
    """Counts of label against prediction, from which accuracy and its kin follow.

    >>> import jax.numpy as jnp
    >>> confusion = Confusion.empty(2).update(labels=jnp.array([0, 1, 1]), predictions=jnp.array([0, 1, 0]))
    >>> confusion.counts.tolist(), round(float(confusion.accuracy()), 3)
    ([[1, 0], [1, 1]], 0.667)

    Attributes:
      counts: int32 of shape (classes, classes); row: label, column: prediction.
    """

    counts: jax.Array

    @classmethod
    def empty(cls, classes: int) -> Self:
        """A table of zeros for labels from 0 to ``classes - 1``."""
        return cls(counts=jnp.zeros((classes, classes), jnp.int32))

    def update(self, *, labels: jax.Array, predictions: jax.Array) -> Self:
        """Count labels and predictions, integers of one shape."""
        return self.replace(counts=self.counts.at[labels.ravel(), predictions.ravel()].add(1))

    def merge(self, other: Self) -> Self:
        """The counts of both."""
        return self.replace(counts=self.counts + other.counts)

    def accuracy(self) -> jax.Array:
        """Share of predictions that equal their label."""
        return jnp.trace(self.counts) / jnp.sum(self.counts)

    def recall(self) -> jax.Array:
        """Share of each label that was found, shape (classes,)."""
        return jnp.diagonal(self.counts) / jnp.sum(self.counts, axis=1)

    def precision(self) -> jax.Array:
        """Share of each predicted class that was right, shape (classes,)."""
        return jnp.diagonal(self.counts) / jnp.sum(self.counts, axis=0)
