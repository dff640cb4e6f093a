"""Rounding whose gradient passes straight through."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["input_steps", "round_inputs", "straight_through"]


@jax.custom_jvp
def straight_through(x: jax.Array, rounded: jax.Array) -> jax.Array:
    """Returns ``rounded``, with the gradient of ``x``."""
    # Not ``x + stop_gradient(rounded - x)``, whose sum is not exactly the rounded value.
    return rounded


@straight_through.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return primals[1], tangents[0]


def input_steps(largest: jax.Array) -> jax.Array:
    """Returns the distance of the 255 numbers that int8 has up to a magnitude; 1 where that is 0.

    Never so small that processors take it for 0, by which inputs would be divided.
    """
    return jnp.where(largest == 0, 1.0, jnp.maximum(largest / 127, jnp.finfo(jnp.float32).tiny))


def round_inputs(x: jax.Array, largest: jax.Array) -> jax.Array:
    """Returns inputs rounded to the 255 numbers that int8 has up to a magnitude; what is cut off has no gradient.

    Args:
      x: the inputs.
      largest: float32, of a shape that broadcasts to that of ``x``.
    """
    wide = lax.stop_gradient(x).astype(jnp.float32)
    scale = input_steps(largest)
    rounded = (jnp.clip(jnp.round(wide / scale), -127, 127) * scale).astype(x.dtype)
    return straight_through(jnp.where(jnp.abs(wide) <= 127.5 * scale, x, lax.stop_gradient(x)), rounded)
