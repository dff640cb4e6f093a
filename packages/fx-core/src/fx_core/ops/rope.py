"""Rotary positions: queries and keys are turned by angles that grow with their positions.

The inner product of two turned vectors depends on the distance of their positions only. Su et al., *RoFormer: Enhanced
Transformer with Rotary Position Embedding*, 2021. The two halves of the depth are the two coordinates that are turned:
feature ``i`` goes with feature ``i + depth / 2``.
"""

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.errors.kinds import ShapeMismatchError
from fx_core.typing import Dtype

__all__ = ["apply_rope", "rope", "rope_tables"]


def rope_tables(positions: jax.Array, depth: int, theta: float = 10000.0) -> tuple[jax.Array, jax.Array]:
    """Computes sine and cosine of the angles.

    Args:
      positions: numbers of any shape.
      depth: features of the vectors to turn, even.
      theta: how slowly the last features turn; feature ``i`` by ``theta ** (-2 i / depth)`` per position.

    Returns:
      Sine and cosine in float32, each of shape ``(*positions.shape, depth / 2)``.

    Raises:
      ShapeMismatchError: the depth is odd or not positive.

    >>> import jax.numpy as jnp
    >>> sin, cos = rope_tables(jnp.arange(3), 4)
    >>> sin.shape, cos[0]
    ((3, 2), Array([1., 1.], dtype=float32))
    """
    if depth < 2 or depth % 2:
        raise ShapeMismatchError(
            "Rotary positions turn pairs of features.",
            expected="a positive even depth",
            got=depth,
            fix="choose heads with an even number of features",
        )
    positions = jnp.asarray(positions, jnp.float32)[..., None]
    frequencies = 1.0 / (theta ** (jnp.arange(0, depth, 2, dtype=jnp.float32) / depth))
    angles = positions * lax.expand_dims(frequencies, range(positions.ndim - 1))
    return jnp.sin(angles), jnp.cos(angles)


def apply_rope(x: jax.Array, sin: jax.Array, cos: jax.Array, *, dtype: Dtype | None = None) -> jax.Array:
    """Rotates vectors by angles whose sine and cosine are given.

    Args:
      x: shape ``(*batch, length, heads, depth)``.
      sin: shape ``(length, depth / 2)``, or with leading dimensions that broadcast to the batch.
      cos: likewise.
      dtype: of the result; that of ``x`` if None. The arithmetic is at least float32.

    Returns:
      An array of the shape of ``x``.

    Raises:
      ShapeMismatchError: the tables do not fit the vectors.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[1.0, 0.0]]])
    >>> apply_rope(x, jnp.array([[1.0]]), jnp.array([[0.0]]))  # by a right angle
    Array([[[0., 1.]]], dtype=float32)
    """
    half = x.shape[-1] // 2
    _check_tables(x, sin.shape)
    _check_tables(x, cos.shape)
    # (*batch, length, 1, half): the heads of a token have the same position.
    sin, cos = (lax.expand_dims(t, (*range(x.ndim - 1 - t.ndim), x.ndim - 2)) for t in (sin, cos))
    left, right = x[..., :half].astype(sin.dtype), x[..., half:].astype(sin.dtype)
    turned = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
    return turned.astype(x.dtype if dtype is None else dtype)


def rope(
    x: jax.Array, positions: jax.Array | None = None, theta: float = 10000.0, *, dtype: Dtype | None = None
) -> jax.Array:
    """Rotates vectors according to their positions.

    Args:
      x: queries or keys, shape ``(*batch, length, heads, depth)``.
      positions: shape ``(length,)``, or with leading dimensions that broadcast to the batch; counted from 0 if None.
      theta: see `rope_tables`.
      dtype: of the result; that of ``x`` if None.

    Returns:
      An array of the shape of ``x``.

    Raises:
      ShapeMismatchError: the depth is odd, or there is not one position per token.

    >>> import jax.numpy as jnp
    >>> rope(jnp.ones((2, 1, 2)))[0]  # position 0 stays
    Array([[1., 1.]], dtype=float32)
    """
    if positions is None:
        positions = jnp.arange(x.shape[-3])
    return apply_rope(x, *rope_tables(positions, x.shape[-1], theta), dtype=dtype)


def _check_tables(x: jax.Array, shape: tuple[int, ...]) -> None:
    target = (*x.shape[:-2], x.shape[-1] // 2)
    padded = (1,) * (len(target) - len(shape)) + tuple(shape)
    batch = len(target) - 2
    fits = len(padded) == len(target) and all(a in (1, b) for a, b in zip(padded[:batch], target))
    if x.ndim < 3 or len(shape) < 2 or x.shape[-1] % 2 or not fits or padded[batch:] != target[batch:]:
        raise ShapeMismatchError(
            "The positions do not fit the vectors to turn.",
            expected=f"one position per token of an array of shape {x.shape}: (*batch, length, heads, even depth)",
            got=f"tables of shape {tuple(shape)}",
            fix="give positions the shape (length,) or (*batch, length)",
        )
