"""Functional neural network modules for JAX: init, apply, immutable parameters."""

from fx_linen._version import __version__

__all__ = ["__version__"]
