"""How often a classifier is right."""

from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
from fx_core import struct
from fx_core.errors import ArgumentError

from fx_train.errors import metric_shape
from fx_train.metrics.base import Metric, same_shape
from fx_train.metrics.counts import Count

Average = Literal["macro", "micro", "weighted"]


class Accuracy(Metric):
    """The share of predictions that equal their label.

    >>> seen = Accuracy.empty().update(labels=jnp.array([0, 1]), predictions=jnp.array([0, 0]))
    >>> float(seen.compute())
    0.5

    Attributes:
      right: how many were right, a `Count`.
      count: how many there were, a `Count`.
    """

    right: Count
    count: Count

    @classmethod
    def empty(cls) -> Self:
        """Returns the accuracy of nothing yet."""
        return cls(right=Count.zeros(), count=Count.zeros())

    def update(self, *, labels: Any, predictions: Any, mask: Any = None) -> Self:
        """Takes labels and predictions, integers of one shape; where ``mask`` is False they do not count.

        Raises:
          MetricError: the shapes differ.
        """
        same_shape(labels=labels, predictions=predictions, mask=mask)
        return self._counted(jnp.asarray(labels) == jnp.asarray(predictions), mask)

    def _counted(self, hits: jax.Array, mask: Any) -> Self:
        mask = jnp.ones(hits.shape, bool) if mask is None else jnp.asarray(mask, bool)
        right, count = jnp.sum(hits & mask, dtype=jnp.int32), jnp.sum(mask, dtype=jnp.int32)
        return self.replace(right=self.right.add(right), count=self.count.add(count))

    def compute(self) -> jax.Array:
        """Returns the share; NaN when nothing was seen."""
        return self.right.as_float() / self.count.as_float()


class TopK(Accuracy):
    """The share of labels that are among the k highest scores.

    >>> logits = jnp.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
    >>> float(TopK.empty(2).update(labels=jnp.array([2, 2]), logits=logits).compute())
    0.5

    A score that equals the label's counts as higher only where its class comes first, as in `jax.lax.top_k`.

    Attributes:
      k: how many scores.
    """

    k: int = struct.field(pytree_node=False, default=5)

    @classmethod
    def empty(cls, k: int = 5) -> Self:
        """Returns the accuracy of nothing yet."""
        return super().empty().replace(k=k)

    def update(self, *, labels: Any, logits: Any, mask: Any = None) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Takes labels (...) and scores (..., classes).

        Raises:
          MetricError: the shapes do not fit, or there are fewer than k classes.
        """
        labels, logits = jnp.asarray(labels), jnp.asarray(logits)
        if logits.shape[:-1] != labels.shape or logits.shape[-1] < self.k:
            raise metric_shape({"labels": labels.shape, f"logits of at least {self.k} classes": logits.shape})
        same_shape(labels=labels, mask=mask)
        _, best = jax.lax.top_k(logits, self.k)
        return self._counted(jnp.any(best == labels[..., None], axis=-1), mask)


class PrecisionRecall(Metric):
    """Precision, recall and F1 per class, and their averages, from three counts per class.

    >>> seen = PrecisionRecall.empty(2).update(labels=jnp.array([0, 1, 1]), predictions=jnp.array([0, 1, 0]))
    >>> seen.recall().tolist(), seen.precision().tolist()
    ([1.0, 0.5], [0.5, 1.0])
    >>> round(float(seen.compute()), 3)
    0.667

    A value without anything to divide by (no such label, or no such prediction) is NaN; macro averages leave it out.

    Attributes:
      hits: a `Count` (classes,), predictions of the class that were right.
      predicted: a `Count` (classes,), predictions of the class.
      labeled: a `Count` (classes,), labels of the class.
    """

    hits: Count
    predicted: Count
    labeled: Count

    @classmethod
    def empty(cls, classes: int) -> Self:
        """Counts of nothing yet, for labels from 0 to ``classes - 1``."""
        zeros = Count.zeros((classes,))
        return cls(hits=zeros, predicted=zeros, labeled=zeros)

    def update(self, *, labels: Any, predictions: Any, mask: Any = None) -> Self:
        """Takes labels and predictions, integers of one shape; where ``mask`` is False they do not count.

        Raises:
          MetricError: the shapes differ.
        """
        same_shape(labels=labels, predictions=predictions, mask=mask)
        labels, predictions = jnp.ravel(jnp.asarray(labels)), jnp.ravel(jnp.asarray(predictions))
        mask = jnp.ones(labels.shape, bool) if mask is None else jnp.ravel(jnp.asarray(mask, bool))
        classes = self.hits.shape[0]

        def count(index: jax.Array, where: jax.Array) -> jax.Array:
            return jnp.zeros(classes, jnp.int32).at[_inside(index, classes)].add(where.astype(jnp.int32), mode="drop")

        return self.replace(
            hits=self.hits.add(count(labels, mask & (labels == predictions))),
            predicted=self.predicted.add(count(predictions, mask)),
            labeled=self.labeled.add(count(labels, mask)),
        )

    def precision(self, average: Average | None = None) -> jax.Array:
        """Shares of the predictions of a class that were right, (classes,), or its average."""
        return self._averaged(self.hits.as_float(), self.predicted.as_float(), average)

    def recall(self, average: Average | None = None) -> jax.Array:
        """Shares of the labels of a class that were found, (classes,), or its average."""
        return self._averaged(self.hits.as_float(), self.labeled.as_float(), average)

    def f1(self, average: Average | None = None) -> jax.Array:
        """Harmonic mean of precision and recall, (classes,), or its average."""
        both = self.predicted.as_float() + self.labeled.as_float()
        return self._averaged(2 * self.hits.as_float(), both, average)

    def compute(self) -> jax.Array:
        """Returns the macro average of F1."""
        return self.f1("macro")

    def _averaged(self, above: jax.Array, below: jax.Array, average: Average | None) -> jax.Array:
        if average == "micro":
            return jnp.sum(above) / jnp.sum(below)
        each = above / below
        if average is None:
            return each
        if average == "macro":
            return jnp.nanmean(each)
        if average == "weighted":
            labeled = self.labeled.as_float()
            return jnp.nansum(each * labeled) / jnp.sum(labeled)
        raise ArgumentError(
            "There is no such average.", expected='"macro", "micro", "weighted" or None', got=repr(average)
        )


class Confusion(Metric):
    """Counts of label against prediction, from which accuracy and its kin follow.

    >>> confusion = Confusion.empty(2).update(labels=jnp.array([0, 1, 1]), predictions=jnp.array([0, 1, 0]))
    >>> confusion.counts.tolist(), round(float(confusion.accuracy()), 3)
    ([[1, 0], [1, 1]], 0.667)

    Attributes:
      counts: a `Count` of shape (classes, classes); row: label, column: prediction.
      outside: a `Count`, pairs of which one is no class; they are in no other count.
    """

    counts: Count
    outside: Count

    @classmethod
    def empty(cls, classes: int) -> Self:
        """Returns a table of zeros for labels from 0 to ``classes - 1``."""
        return cls(counts=Count.zeros((classes, classes)), outside=Count.zeros())

    def update(self, *, labels: Any, predictions: Any, mask: Any = None) -> Self:
        """Counts labels and predictions, integers of one shape; where ``mask`` is False they do not count.

        Raises:
          MetricError: the shapes differ.
        """
        same_shape(labels=labels, predictions=predictions, mask=mask)
        classes = self.counts.shape[0]
        labels, predictions = jnp.ravel(jnp.asarray(labels)), jnp.ravel(jnp.asarray(predictions))
        mask = jnp.ones(labels.shape, bool) if mask is None else jnp.ravel(jnp.asarray(mask, bool))
        row, column = _inside(labels, classes), _inside(predictions, classes)
        zeros = jnp.zeros((classes, classes), jnp.int32)
        counts = self.counts.add(zeros.at[row, column].add(mask.astype(jnp.int32), mode="drop"))
        outside = jnp.sum(mask & ((row == classes) | (column == classes)), dtype=jnp.int32)
        return self.replace(counts=counts, outside=self.outside.add(outside))

    def compute(self) -> jax.Array:
        """Returns the accuracy."""
        return self.accuracy()

    def accuracy(self) -> jax.Array:
        """Shares of predictions that equal their label."""
        counts = self.counts.as_float()
        return jnp.trace(counts) / jnp.sum(counts)

    def recall(self) -> jax.Array:
        """Shares of each label that was found, shape (classes,)."""
        counts = self.counts.as_float()
        return jnp.diagonal(counts) / jnp.sum(counts, axis=1)

    def precision(self) -> jax.Array:
        """Shares of each predicted class that was right, shape (classes,)."""
        counts = self.counts.as_float()
        return jnp.diagonal(counts) / jnp.sum(counts, axis=0)

    def f1(self) -> jax.Array:
        """Harmonic mean of precision and recall of each class, shape (classes,)."""
        counts = self.counts.as_float()
        return 2 * jnp.diagonal(counts) / (jnp.sum(counts, axis=0) + jnp.sum(counts, axis=1))


def _inside(index: jax.Array, classes: int) -> jax.Array:
    """The index, or ``classes`` for what is none: JAX would count negative ones from the end."""
    if index.dtype.itemsize < 4:
        index = index.astype(jnp.int32)  # in which ``classes`` fits
    return jnp.where((index >= 0) & (index < classes), index, classes)
