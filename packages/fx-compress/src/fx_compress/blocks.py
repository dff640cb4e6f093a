"""Arithmetic of an array with a smaller one that has one entry per block of it."""

import math
from collections.abc import Callable, Sequence

import jax

__all__ = ["block_shape", "combine", "group_sizes", "grouped", "reduce_blocks"]


def block_shape(shape: tuple[int, ...], axes: tuple[int, ...], group: int | None) -> tuple[int, ...]:
    """Returns the shape of an array with one entry per block.

    Args:
      shape: of the array.
      axes: axes that blocks extend over, counted from the front.
      group: number of elements of a block along these axes, the last of which is filled first; None for all of them.

    >>> block_shape((64, 8), (0,), 16), block_shape((4, 16, 8), (0, 1), 32)
    ((4, 8), (2, 1, 8))
    """
    sizes = [1 if axis in axes else size for axis, size in enumerate(shape)]
    left = group or math.prod(shape[axis] for axis in axes)
    for axis in reversed(axes):
        within = min(left, shape[axis])
        sizes[axis] = shape[axis] // max(within, 1)
        left //= max(within, 1)
    return tuple(sizes)


def group_sizes(sizes: Sequence[int]) -> list[int]:
    """Returns the sizes of groups that divide elements along axes of these sizes, whose last is filled first.

    >>> group_sizes([3, 4])
    [1, 2, 4, 12]
    """
    found, whole = set[int](), 1
    for size in reversed(sizes):
        found |= {whole * n for n in range(1, size + 1) if size % n == 0}
        whole *= size
    return sorted(found)


def grouped(shape: Sequence[int], few: Sequence[int]) -> tuple[int, ...]:
    """Returns the sizes of blocks along axes that have several, of several elements each, in a canonical order.

    >>> grouped((64, 8), (4, 8)), grouped((64, 8), (1, 8))
    ((16,), ())
    """
    return tuple(sorted(many // n for many, n in zip(shape, few) if 1 < n < many))


def combine(array: jax.Array, small: jax.Array, function: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """Applies a function to an array and the block entries that belong to its elements.

    >>> import jax.numpy as jnp
    >>> combine(jnp.ones((4, 1)), jnp.array([[1.0], [2.0]]), jnp.multiply)[:, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    if all(few in (1, many) for few, many in zip(small.shape, array.shape)):
        return function(array, small)
    split = _split(array.shape, small.shape)
    return function(array.reshape(split), small.reshape([s for few in small.shape for s in (few, 1)])).reshape(
        array.shape
    )


def reduce_blocks(array: jax.Array, shape: tuple[int, ...], function: Callable[..., jax.Array]) -> jax.Array:
    """Reduces every block, by a function with ``axis=``, to an array of one entry per block of the given shape.

    >>> import jax.numpy as jnp
    >>> reduce_blocks(jnp.arange(4.0).reshape(4, 1), (2, 1), jnp.max)[:, 0].tolist()
    [1.0, 3.0]
    """
    return function(array.reshape(_split(array.shape, shape)), axis=tuple(range(1, 2 * array.ndim, 2)))


def _split(shape: tuple[int, ...], few: tuple[int, ...]) -> tuple[int, ...]:
    assert math.prod(few) or not math.prod(shape)
    return tuple(size for n, many in zip(few, shape) for size in (n, many // max(n, 1)))
