"""Values of some axes of an array, such as a bias, made ready to be combined with it."""

from collections.abc import Sequence

import jax
from jax import lax

from fx_core.array_node import ArrayNode, array_of

__all__ = ["along"]


def along(values: jax.Array | ArrayNode, missing: Sequence[int]) -> jax.Array:
    """Returns values that broadcast with an array of more axes.

    Args:
      values: their axes are those of the array, but for some.
      missing: the axes of the array that they do not have, in ascending order.

    Returns:
      The values, with axes of size 1 unless JAX adds those by itself. The traced program is the same.
    """
    array = array_of(values)
    # Outside of jit a small product with a bias, summed up, takes 14 µs in this way, and 51 µs with expanded axes.
    if tuple(missing) == tuple(range(len(missing))) and jax.numpy_rank_promotion.value == "allow":
        return array
    return lax.expand_dims(array, missing)
