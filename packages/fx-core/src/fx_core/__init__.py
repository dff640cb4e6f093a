"""Scopes, variable collections, RNG streams, metadata, shared layer mathematics and the plugin registry of fx."""

from fx_core._version import __version__

__all__ = ["__version__"]
