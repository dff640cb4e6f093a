"""Linen modules inside NNX and NNX modules inside Linen."""

from fx_bridge._version import __version__

__all__ = ["__version__"]
