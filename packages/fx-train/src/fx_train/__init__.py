"""Training state, metrics and loop helpers for fx and any pytree model."""

from fx_train._version import __version__

__all__ = ["__version__"]
