"""Inference bundles of trained networks, loadable without training code."""

from fx_export._version import __version__
from fx_export.bundle import Bundle, load
from fx_export.exporting import export
from fx_export.renewing import renew
from fx_export.several import EntryPoint, export_several

__all__ = ["Bundle", "EntryPoint", "__version__", "export", "export_several", "load", "renew"]
