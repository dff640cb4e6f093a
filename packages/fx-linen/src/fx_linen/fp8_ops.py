"""`flax.linen.fp8_ops`: its layers, see `fx_linen.names_of_flax`, and its functions, for those who scale by themselves.

What the layers compute is in `fx_core.ops.lowp`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import lowp

from fx_linen.names_of_flax import finder

__all__ = ["compute_amax_history", "compute_scale", "dequantize", "get_fp8_max", "qdq", "quantize"]


def get_fp8_max(fp8_dtype: Any, out_dtype: Any) -> jax.Array:
    """Returns the largest number of a format as a number of another dtype."""
    return jnp.finfo(fp8_dtype).max.astype(out_dtype)


def quantize(x: jax.Array, q_dtype: Any, scale: jax.Array, compute_dtype: Any) -> jax.Array:
    """Divides by a scale and rounds to a format; what is too large becomes its largest number.

    Args:
      x: any shape.
      q_dtype: the format.
      scale: broadcasts to ``x``.
      compute_dtype: dtype of the scale and of the largest number in the computation.

    >>> import jax.numpy as jnp
    >>> from fx_linen import fp8_ops
    >>> x = jnp.array([1.1, 1000.0])
    >>> fp8_ops.qdq(x, jnp.float8_e4m3fn, jnp.array([2.0]), jnp.float32)
    Array([  1.125, 896.   ], dtype=float32)
    """
    largest = get_fp8_max(q_dtype, compute_dtype)
    scaled = x / jnp.broadcast_to(scale.astype(compute_dtype), x.shape)
    return jnp.clip(scaled, -largest, largest).astype(q_dtype)


def dequantize(x: jax.Array, dq_dtype: Any, scale: jax.Array) -> jax.Array:
    """Undoes `quantize`, up to rounding, in the dtype given."""
    return x.astype(dq_dtype) * jnp.broadcast_to(scale.astype(dq_dtype), x.shape)


def qdq(x: jax.Array, q_dtype: Any, scale: jax.Array, compute_dtype: Any) -> jax.Array:
    """Rounds to the numbers of a format; the dtype stays. The arguments are those of `quantize`."""
    return dequantize(quantize(x, q_dtype, scale, compute_dtype), x.dtype, scale)


def compute_scale(amax: jax.Array, scale: jax.Array, fp8_max: Any, margin: int = 0) -> jax.Array:
    """Returns the scale with which ``amax`` becomes the largest number of a format.

    Args:
      amax: the largest magnitude; where it is 0 or not finite, the scale stays.
      scale: the last one.
      fp8_max: the largest number, see `get_fp8_max`.
      margin: powers of two to leave above.
    """
    usable = (amax > 0.0) & jnp.isfinite(amax)
    return 1.0 / jnp.where(usable, fp8_max / amax / 2**margin, 1.0 / scale)


def compute_amax_history(x: jax.Array, amax_history: jax.Array) -> jax.Array:
    """Takes the largest magnitude of an array into a history: it stands first, the oldest drops out."""
    return lowp.next_history(x, amax_history)


__getattr__ = finder(__name__)
