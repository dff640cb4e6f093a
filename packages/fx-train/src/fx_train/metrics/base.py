"""What all metrics have in common."""

from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from fx_core import struct

from fx_train.errors import MetricMergeError, MetricShapeError


class Metric(struct.PyTreeNode):
    """Base of metrics whose arrays are sums over what was seen; others override `merge` and `reduce`.

    A metric of your own is a subclass with fields, an ``update`` and a ``compute``.
    """

    def merge(self, other: Self) -> Self:
        """The metric over what both have seen.

        Raises:
          MetricMergeError: they are metrics of different kinds, or of different numbers of classes.
        """
        same_kind(self, other)
        return jax.tree.map(jnp.add, self, other)

    def reduce(self, axis_name: Any) -> Self:
        """The metric over what all devices of a mapped axis have seen, in `jax.shard_map`, `jax.pmap` or `jax.vmap`."""
        return jax.lax.psum(self, axis_name)

    def compute(self) -> jax.Array:
        """The metric's value, a scalar."""
        raise TypeError(f"{type(self).__name__} does not say what its value is: define compute(self).")


def same_kind(one: Metric, other: Any) -> None:
    """See that two metrics counted the same things.

    Raises:
      MetricMergeError: they did not.
    """
    # The type besides, since structures of different classes with as many fields are equal to JAX.
    kinds = [(jax.tree.structure(m), [np.shape(x) for x in jax.tree.leaves(m)], type(m)) for m in (one, other)]
    if kinds[0] != kinds[1]:
        raise MetricMergeError(*(f"{kind.__name__} of {shapes}" for _, shapes, kind in kinds))


def same_shape(**arrays: Any) -> None:
    """See that arrays have one shape.

    Raises:
      MetricShapeError: they have not; broadcasting would count something else than was meant.
    """
    shapes = {name: np.shape(array) for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        raise MetricShapeError(shapes)


def add_pairs(high: jax.Array, low: jax.Array, other_high: jax.Array, other_low: jax.Array) -> tuple[Any, Any]:
    """Add two sums that are kept as a number and what its rounding lost.

    In float32 alone, adding 1 ends at 2**24. [Knuth, "The Art of Computer Programming", vol. 2, theorem B of 4.2.2]
    """
    total = high + other_high
    back = total - high
    lost = (high - (total - back)) + (other_high - back)
    return total, low + other_low + lost
