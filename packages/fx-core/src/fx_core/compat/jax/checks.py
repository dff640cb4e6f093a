"""Checks of JAX that functions can carry."""

from jax.experimental import checkify

__all__ = ["checkify"]
