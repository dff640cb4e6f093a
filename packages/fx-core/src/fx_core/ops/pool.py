"""Pooling: a reduction over a window that slides over the spatial dimensions.

All functions take ``(*batch, *space, features)`` with any number of batch dimensions, none included, and treat the
features independently.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fx_core.errors.kinds import ArgumentError

__all__ = ["avg_pool", "max_pool", "min_pool", "pool"]

Padding = str | Sequence[tuple[int, int]]


def pool(
    inputs: jax.Array,
    init: Any,
    reduce_fn: Callable[[Any, Any], Any],
    window_shape: Sequence[int],
    strides: Sequence[int] | None,
    padding: Padding,
) -> jax.Array:
    """Reduces every window of the spatial dimensions to one value.

    Args:
      inputs: shape ``(*batch, *space, features)``.
      init: the neutral element of ``reduce_fn``.
      reduce_fn: an associative function of two values, such as `jax.lax.add`.
      window_shape: size of the window in each spatial dimension.
      strides: step of the window in each spatial dimension; ones if None.
      padding: ``"SAME"``, ``"VALID"``, or a pair (before, after) per spatial dimension.

    Returns:
      An array of shape ``(*batch, *windows, features)``.

    Raises:
      ArgumentError: window, strides or padding do not fit each other or the input.

    >>> import jax.numpy as jnp
    >>> pool(jnp.arange(4.0).reshape(4, 1), 0.0, lax.add, (2,), (2,), "VALID")[:, 0]
    Array([1., 5.], dtype=float32)
    """
    rank = len(window_shape)
    strides = (1,) * rank if strides is None else strides
    batch = inputs.ndim - (rank + 1)
    _check(inputs.shape, window_shape, strides)
    if not isinstance(padding, str):
        padding = ((0, 0),) * batch + _pairs(padding, rank) + ((0, 0),)
    outer = (1,) * batch
    return lax.reduce_window(inputs, init, reduce_fn, (*outer, *window_shape, 1), (*outer, *strides, 1), padding)


def max_pool(
    inputs: jax.Array, window_shape: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Takes the maximum of each window.

    Args:
      inputs: shape ``(*batch, *space, features)``.
      window_shape: size of the window in each spatial dimension.
      strides: step of the window in each spatial dimension; ones if None.
      padding: ``"SAME"``, ``"VALID"``, or a pair (before, after) per spatial dimension; never wins the maximum.

    Returns:
      An array of shape ``(*batch, *windows, features)`` and the dtype of the inputs.

    Raises:
      ArgumentError: window, strides or padding do not fit each other or the input.

    >>> import jax.numpy as jnp
    >>> max_pool(jnp.array([[1.0], [5.0], [2.0]]), (2,))[:, 0]
    Array([5., 5.], dtype=float32)
    """
    return pool(inputs, _extreme(inputs, lowest=True), lax.max, window_shape, strides, padding)


def min_pool(
    inputs: jax.Array, window_shape: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """Takes the minimum of each window.

    Args:
      inputs: shape ``(*batch, *space, features)``.
      window_shape: size of the window in each spatial dimension.
      strides: step of the window in each spatial dimension; ones if None.
      padding: ``"SAME"``, ``"VALID"``, or a pair (before, after) per spatial dimension; never wins the minimum.

    Returns:
      An array of shape ``(*batch, *windows, features)`` and the dtype of the inputs.

    Raises:
      ArgumentError: window, strides or padding do not fit each other or the input.

    >>> import jax.numpy as jnp
    >>> min_pool(jnp.array([[1.0], [5.0], [2.0]]), (2,))[:, 0]
    Array([1., 2.], dtype=float32)
    """
    return pool(inputs, _extreme(inputs, lowest=False), lax.min, window_shape, strides, padding)


def avg_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """Takes the average of each window.

    Args:
      inputs: shape ``(*batch, *space, features)``.
      window_shape: size of the window in each spatial dimension.
      strides: step of the window in each spatial dimension; ones if None.
      padding: ``"SAME"``, ``"VALID"``, or a pair (before, after) per spatial dimension.
      count_include_pad: whether padding counts as zeros, or is left out of the average.

    Returns:
      An array of shape ``(*batch, *windows, features)``; of integers and booleans, floating point numbers. Sums are of
      float32 at least, so that those of 16 bits neither overflow nor stop growing in large windows.

    Raises:
      ArgumentError: window, strides or padding do not fit each other or the input.

    >>> import jax.numpy as jnp
    >>> avg_pool(jnp.ones((3, 1)), (2,), padding="SAME")[:, 0]
    Array([1. , 1. , 0.5], dtype=float32)
    >>> avg_pool(jnp.ones((3, 1)), (2,), padding="SAME", count_include_pad=False)[:, 0]
    Array([1., 1., 1.], dtype=float32)
    """
    floating = jnp.issubdtype(inputs.dtype, jnp.inexact)
    dtype = inputs.dtype if floating else jnp.dtype(jnp.float64 if inputs.dtype.itemsize > 4 else jnp.float32)
    # A sum of small integers would wrap around, one of halves overflow, and one of bfloat16 stop at 256 ones.
    inputs = inputs.astype(dtype if dtype.itemsize >= 4 else jnp.float32)
    total = pool(inputs, 0.0, lax.add, window_shape, strides, padding)
    if count_include_pad:
        return (total / math.prod(window_shape)).astype(dtype)
    batch = inputs.ndim - (len(window_shape) + 1)
    ones = jnp.ones((1,) * batch + inputs.shape[batch:-1] + (1,), total.dtype)
    return (total / pool(ones, ones.dtype.type(0), lax.add, window_shape, strides, padding)).astype(dtype)


def _extreme(inputs: jax.Array, *, lowest: bool) -> Any:
    if jnp.issubdtype(inputs.dtype, jnp.inexact):
        return -jnp.inf if lowest else jnp.inf
    if inputs.dtype == bool:
        return np.bool_(not lowest)
    info = jnp.iinfo(inputs.dtype)
    return inputs.dtype.type(info.min if lowest else info.max)


def _check(shape: Sequence[Any], window_shape: Sequence[int], strides: Any) -> None:
    rank = len(window_shape)
    if len(shape) < rank + 1:
        raise ArgumentError(
            "The input has too few dimensions for the window.",
            expected=f"(*batch, {'space, ' * rank}features)",
            got=tuple(shape),
            fix="add the missing dimension, often the features: x[..., None]",
        )
    if not isinstance(strides, Sequence) or len(strides) != rank:
        raise ArgumentError(
            "The strides do not fit the window.",
            expected=f"{rank} integers, one per dimension of window_shape={tuple(window_shape)}",
            got=f"strides={strides!r}",
            fix=f"write strides={(2,) * rank}, for example",
        )


def _pairs(padding: Any, rank: int) -> tuple[tuple[int, int], ...]:
    try:
        pairs = tuple((int(before), int(after)) for before, after in padding)
    except (TypeError, ValueError):
        pairs = ()
    if len(pairs) != rank:
        raise ArgumentError(
            "The padding does not fit the window.",
            expected=f"'SAME', 'VALID', or {rank} pair(s) (before, after)",
            got=f"padding={padding!r}",
            fix=f"write padding={((1, 1),) * rank}, for example",
        )
    return pairs
