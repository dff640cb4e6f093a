"""A scan over any axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors import ShapeMismatchError


def scan_in_dim(
    body_fn: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any,
    axis: int | Sequence[int] = (0,),
    unroll: int | Sequence[int] = (1,),
    keepdims: bool = False,
) -> tuple[Any, Any]:
    """`jax.lax.scan` over one or more axes, the first one outermost.

    >>> total, sums = scan_in_dim(lambda c, x: (c + x.sum(), x + c), 0.0, jnp.ones((2, 3)), axis=1)
    >>> float(total), sums.tolist()
    (6.0, [[1.0, 3.0, 5.0], [1.0, 3.0, 5.0]])

    Args:
      body_fn: gives (carry, y) for (carry, x), where x lacks the scanned axes, and so does y.
      init: the first carry.
      xs: a tree of arrays.
      axis: axes to scan over, of every array; negative ones count from its end.
      unroll: per axis, how many steps of the loop make one of the program's; 1 for axes beyond its end.
      keepdims: x and y keep the scanned axes, of length 1.

    Returns:
      The last carry, and the ys joined at the axes.

    Raises:
      ShapeMismatchError: an axis is out of range or named twice.
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    unrolls = (unroll,) if isinstance(unroll, int) else tuple(unroll)
    unrolls += (1,) * (len(axes) - len(unrolls))
    count = len(axes)

    def inner(carry: Any, x: Any) -> tuple[Any, Any]:
        if keepdims:
            x = jax.tree.map(lambda leaf, full: jnp.expand_dims(leaf, _normal(axes, full.ndim)), x, xs)
        carry, y = body_fn(carry, x)
        if keepdims:
            y = jax.tree.map(lambda leaf: jnp.squeeze(leaf, _normal(axes, jnp.ndim(leaf))), y)
        return carry, y

    step = inner
    for each in reversed(unrolls[:count]):
        step = _loop(step, each)
    first = jax.tree.map(lambda x: jnp.moveaxis(x, _normal(axes, x.ndim), range(count)), xs)
    carry, ys = step(init, first)
    return carry, jax.tree.map(lambda y: jnp.moveaxis(y, range(count), _normal(axes, y.ndim)), ys)


def _loop(step: Callable[[Any, Any], tuple[Any, Any]], unroll: int) -> Callable[[Any, Any], tuple[Any, Any]]:
    return lambda carry, xs: jax.lax.scan(step, carry, xs, unroll=unroll)


def _normal(axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    normal = tuple(axis + ndim if axis < 0 else axis for axis in axes)
    if not all(0 <= axis < ndim for axis in normal) or len(set(normal)) != len(normal):
        raise ShapeMismatchError(
            f"Cannot scan over axes {axes} of an array with {ndim} axes.",
            expected=f"different axes from {-ndim} to {ndim - 1}",
            got=str(axes),
        )
    return normal
