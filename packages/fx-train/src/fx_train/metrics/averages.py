"""Averages and moments."""

from typing import Any, Self

import jax
import jax.numpy as jnp
from fx_core.ops.sums import add_sums, merge_moments

from fx_train.metrics.base import Metric, same_kind, same_shape
from fx_train.metrics.counts import Count


class Mean(Metric):
    """A weighted mean.

    >>> mean = Mean.empty().update(jnp.array([1.0, 2.0])).update(jnp.array(6.0))
    >>> float(mean.compute())
    3.0

    Sums are kept to about 48 bits, so that a stream may be long.

    Attributes:
      total: weighted sum so far, a float32 scalar.
      weight: sum of the weights, a float32 scalar.
      total_rest: what rounding took from ``total``.
      weight_rest: what rounding took from ``weight``.
    """

    total: jax.Array
    weight: jax.Array
    total_rest: jax.Array
    weight_rest: jax.Array

    @classmethod
    def empty(cls) -> Self:
        """Returns the mean of nothing yet."""
        zero = jnp.zeros((), jnp.float32)
        return cls(total=zero, weight=zero, total_rest=zero, weight_rest=zero)

    def update(self, values: Any, weights: Any = None) -> Self:
        """Takes values of any shape, with weights of the same shape (1 by default, 0 or False to leave one out).

        Raises:
          MetricError: the shapes differ.
        """
        same_shape(values=values, weights=weights)
        values = jnp.asarray(values, jnp.float32)
        weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights, jnp.float32)
        # A value that is left out may be anything, such as the NaN of a padded example.
        weighted = jnp.where(weights == 0, 0.0, values * weights)
        zero = jnp.zeros((), jnp.float32)
        new = self.replace(total=jnp.sum(weighted), weight=jnp.sum(weights), total_rest=zero, weight_rest=zero)
        return self.merge(new)

    def merge(self, other: Self) -> Self:
        """Returns the mean over what both have seen."""
        same_kind(self, other)
        total, total_rest = add_sums((self.total, self.total_rest), (other.total, other.total_rest))
        weight, weight_rest = add_sums((self.weight, self.weight_rest), (other.weight, other.weight_rest))
        return self.replace(total=total, weight=weight, total_rest=total_rest, weight_rest=weight_rest)

    def compute(self) -> jax.Array:
        """Returns the mean; NaN when nothing was seen."""
        return (self.total + self.total_rest) / (self.weight + self.weight_rest)


class Perplexity(Mean):
    """The exponential of the mean loss per token.

    >>> round(float(Perplexity.empty().update(jnp.log(jnp.array([2.0, 8.0]))).compute()), 3)
    4.0

    ``update`` takes the losses (negative log-likelihoods, natural logarithm) and weights that leave padding out.
    """

    def compute(self) -> jax.Array:
        """Returns the perplexity; NaN when nothing was seen."""
        return jnp.exp(super().compute())


class Welford(Metric):
    """The count, mean and variance in one pass, without the cancellation of sums of squares.

    [Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979]

    >>> seen = Welford.empty().update(jnp.array([1.0, 2.0])).update(jnp.array([6.0]))
    >>> float(seen.mean), round(float(seen.variance()), 3)
    (3.0, 4.667)

    Attributes:
      count: how many values, a `Count`.
      mean: their mean, a float32 scalar; 0 when nothing was seen.
      squares: the sum of squared differences from the mean, a float32 scalar.
      mean_rest: what rounding took from ``mean``.
      squares_rest: what rounding took from ``squares``.
    """

    count: Count
    mean: jax.Array
    squares: jax.Array
    mean_rest: jax.Array
    squares_rest: jax.Array

    @classmethod
    def empty(cls) -> Self:
        """Returns the moments of nothing yet."""
        zero = jnp.zeros((), jnp.float32)
        return cls(count=Count.zeros(), mean=zero, squares=zero, mean_rest=zero, squares_rest=zero)

    def update(self, values: Any) -> Self:
        """Takes values of any shape."""
        values = jnp.asarray(values, jnp.float32)
        if values.size == 0:
            return self
        mean = jnp.mean(values)
        new = self.empty().replace(
            count=Count.zeros().add(values.size), mean=mean, squares=jnp.sum(jnp.square(values - mean))
        )
        return self.merge(new)

    def merge(self, other: Self) -> Self:
        """Returns the moments of both."""
        same_kind(self, other)
        (mean, mean_rest), (squares, squares_rest) = merge_moments(self._moments(), other._moments())
        return self.replace(
            count=self.count.merge(other.count),
            mean=mean,
            squares=squares,
            mean_rest=mean_rest,
            squares_rest=squares_rest,
        )

    def _moments(self) -> Any:
        count = self.count.as_float().astype(jnp.float32)
        return count, (self.mean, self.mean_rest), (self.squares, self.squares_rest)

    def reduce(self, axis_name: Any) -> Self:
        """Returns the moments over all devices of a mapped axis."""
        own, all_counts = self.count.as_float().astype(jnp.float32), self.count.reduce(axis_name)
        share = own / jnp.maximum(all_counts.as_float().astype(jnp.float32), 1)
        mean = jax.lax.psum((self.mean + self.mean_rest) * share, axis_name)
        inner = self.squares + self.squares_rest + own * jnp.square(self.mean - mean)
        zero = jnp.zeros_like(mean)
        squares = jax.lax.psum(inner, axis_name)
        return self.replace(count=all_counts, mean=mean, squares=squares, mean_rest=zero, squares_rest=zero)

    def variance(self, ddof: int = 0) -> jax.Array:
        """Returns the variance; ``ddof=1`` for that of the distribution that the values are a sample of."""
        # Whole numbers, since a large count in float32 is as large without the one that ddof takes away.
        return (self.squares + self.squares_rest) / self._count_less(ddof)

    def _count_less(self, ddof: int) -> jax.Array:
        count = self.count
        return count.replace(rest=count.rest - ddof).as_float().astype(jnp.float32)

    def deviation(self, ddof: int = 0) -> jax.Array:
        """Returns the standard deviation."""
        return jnp.sqrt(self.variance(ddof))

    def compute(self) -> jax.Array:
        """Returns the mean; NaN when nothing was seen."""
        return jnp.where(self.count.as_float() > 0, self.mean + self.mean_rest, jnp.nan)
