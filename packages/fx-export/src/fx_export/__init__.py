"""Inference bundles of trained networks, loadable without training code."""

from fx_export._version import __version__
from fx_export.bundle import Bundle, load
from fx_export.exporting import export

__all__ = ["Bundle", "__version__", "export", "load"]
