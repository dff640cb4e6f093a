"""Inference bundles of trained networks, loadable without training code."""

from fx_export._version import __version__

__all__ = ["__version__"]
