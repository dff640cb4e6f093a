"""Running sums that neither stagnate nor overflow: what metrics are made of.

A sum of float32 stays where it is once it is 2**24 times what is added, and a count of int32 wraps at 2**31. Both are
kept in two parts here, of which the first alone is the sum as long as it is small.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.typing import Dtype

__all__ = ["add_counts", "add_sums", "count_as_float", "merge_moments", "split_count"]

Pair = tuple[jax.Array, jax.Array]

_UNIT = 30


def add_sums(one: Pair, other: Pair) -> Pair:
    """Adds two sums, each a number and what its rounding lost, as which the result comes back.

    Knuth, The Art of Computer Programming, vol. 2, theorem B of 4.2.2; Dekker, A floating-point technique for extending
    the available precision, 1971.

    Args:
      one: two arrays of floating point of one shape.
      other: the same.

    Returns:
      The sum in about twice the digits; infinite sums have lost nothing.

    >>> big, one = jnp.float32(2**24), jnp.float32(1)
    >>> [float(x) for x in add_sums((big, 0 * one), (one, 0 * one))]
    [16777216.0, 1.0]
    """
    total = one[0] + other[0]
    back = total - one[0]
    lost = (one[0] - (total - back)) + (other[0] - back) + (one[1] + other[1])
    # Differences of infinities are no numbers.
    high = total + jnp.where(jnp.isfinite(total), lost, 0)
    return high, jnp.where(jnp.isfinite(high), lost - (high - total), 0)


def split_count(count: Any) -> Pair:
    """Returns a count below 2**31 as a pair for `add_counts`: what is left of units of 2**30, and how many
    there are.
    """
    return add_counts((jnp.int32(count), jnp.int32(0)), (jnp.int32(0), jnp.int32(0)))


def add_counts(one: Pair, other: Pair) -> Pair:
    """Adds two counts, each int32 arrays of a rest and of units of 2**30; the rest comes back below such a unit.

    >>> [int(x) for x in add_counts((jnp.int32(2**31 - 1), jnp.int32(0)), (jnp.int32(3), jnp.int32(1)))]
    [2, 3]
    """
    low = one[0].astype(jnp.uint32) + other[0].astype(jnp.uint32)
    high = one[1] + other[1] + (low >> _UNIT).astype(jnp.int32)
    return (low & (2**_UNIT - 1)).astype(jnp.int32), high


def count_as_float(count: Pair, dtype: Dtype = jnp.float32) -> jax.Array:
    """Returns a count in floating point.

    >>> float(count_as_float((jnp.int32(5), jnp.int32(2))))
    2147483648.0
    """
    return count[1].astype(dtype) * 2.0**_UNIT + count[0].astype(dtype)


def merge_moments(one: tuple[Any, Pair, Pair], other: tuple[Any, Pair, Pair]) -> tuple[Pair, Pair]:
    """Mean and sum of squared differences from it, over two sets of values.

    Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.

    Args:
      one: how many values, in floating point; their mean and squares as pairs for `add_sums`.
      other: the same.

    Returns:
      Mean and squares as such pairs.

    >>> zero = jnp.float32(0)
    >>> nothing, seen = (zero, (zero, zero), (zero, zero)), (zero + 2, (zero + 3, zero), (zero + 1, zero))
    >>> mean, squares = merge_moments(nothing, seen)
    >>> float(mean[0]), float(squares[0])
    (3.0, 1.0)
    """
    (count, mean, squares), (more, other_mean, other_squares) = one, other
    share = more / jnp.maximum(count + more, 1)
    difference = (other_mean[0] - mean[0]) + (other_mean[1] - mean[1])
    moved, apart = difference * share, jnp.square(difference) * count * share
    zero = lax.full_like(moved, 0)
    return add_sums(mean, (moved, zero)), add_sums(add_sums(squares, other_squares), (apart, zero))
