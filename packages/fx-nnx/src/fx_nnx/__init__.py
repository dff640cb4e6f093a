"""Neural network modules for JAX as objects with mutable state."""

from fx_nnx._version import __version__

__all__ = ["__version__"]
