"""Rotary positions as a module."""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors import ShapeMismatchError
from fx_core.ops.rope import apply_rope, rope_tables

from fx_nnx.layers.params import located
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.variables.variable import Variable

__all__ = ["RoPE"]


class RoPE(Module):
    """Turns vectors by angles that grow with their positions; see `fx_core.ops.rope`.

    Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021.

    >>> import jax.numpy as jnp
    >>> RoPE()(jnp.ones((1, 3, 2)))[0, 0]  # position 0 stays
    Array([1., 1.], dtype=float32)

    Args:
      theta: how slowly the last features turn.
      embedding_size: size of the vectors; with ``max_seq_len``, sine and cosine are computed once and kept.
      max_seq_len: number of positions to keep them for.

    Raises:
      ShapeMismatchError: only one of size and number is given, or the size is odd.
    """

    def __init__(self, theta: float = 10000.0, embedding_size: int | None = None, max_seq_len: int | None = None):
        if (embedding_size is None) != (max_seq_len is None):
            raise ShapeMismatchError(
                "Tables of sine and cosine need the size of the vectors and the number of positions.",
                expected="both of embedding_size and max_seq_len, or none",
                got=f"embedding_size={embedding_size}, max_seq_len={max_seq_len}",
                fix="pass both, or none to compute the angles in each call",
            )
        self.theta = theta
        self.cached_sin, self.cached_cos = data(None), data(None)
        if embedding_size is not None and max_seq_len is not None:
            sin, cos = rope_tables(jnp.arange(max_seq_len), embedding_size, theta)
            self.cached_sin, self.cached_cos = Variable(sin), Variable(cos)

    def __describe__(self) -> dict[str, Any]:
        if self.cached_sin is None:
            return {"embedding_size": None, "max_seq_len": None}
        length, half = self.cached_sin.shape
        return {"embedding_size": 2 * half, "max_seq_len": length}

    @located
    def __call__(self, x: jax.Array, input_positions: jax.Array | None = None) -> jax.Array:
        """Rotates vectors.

        Args:
          x: shape ``(..., length, size)``.
          input_positions: shape ``(length,)``, or with leading dimensions that broadcast; counted from 0 if None.

        Returns:
          An array of the shape of ``x``, float32 at least.

        Raises:
          ShapeMismatchError: the size is odd or not that of the tables, or there is not one position per vector.
        """
        return self.turn(x[..., None, :], input_positions)[..., 0, :]

    def turn(self, x: jax.Array, input_positions: jax.Array | None = None) -> jax.Array:
        """Rotates vectors of several heads, shape ``(*batch, length, heads, depth)``; else like ``__call__``."""
        sin, cos = self._tables(x, input_positions)
        return apply_rope(x, sin, cos, dtype=jnp.promote_types(x.dtype, jnp.float32))

    def _tables(self, x: jax.Array, positions: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        if self.cached_sin is None:
            return rope_tables(jnp.arange(x.shape[-3]) if positions is None else positions, x.shape[-1], self.theta)
        tables: tuple[jax.Array, jax.Array] = (self.cached_sin.get_value(), self.cached_cos.get_value())
        length, half = tables[0].shape
        if x.shape[-1] != 2 * half or (positions is None and x.shape[-3] > length):
            raise ShapeMismatchError(
                "The vectors do not fit the tables of sine and cosine.",
                expected=f"at most {length} vectors of {2 * half} features",
                got=f"{x.shape[-3]} of {x.shape[-1]}",
                fix="make the RoPE with a larger embedding_size and max_seq_len, or without them",
            )
        if positions is None:
            return tables[0][: x.shape[-3]], tables[1][: x.shape[-3]]
        # A position outside the table is a mistake that cannot be raised inside a trace: it gives NaN.
        sin, cos = (jnp.take(table, positions, axis=0, mode="fill") for table in tables)
        return sin, cos
