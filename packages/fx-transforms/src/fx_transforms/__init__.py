"""One lifting engine: JAX transforms that thread groups of state."""

from fx_transforms._version import __version__

__all__ = ["__version__"]
