"""Inference bundles of trained networks, loadable without training code."""

from typing import TYPE_CHECKING

from fx_core.lazy_imports import lazy_imports

from fx_export._version import __version__
from fx_export.bundle import Bundle, load

if TYPE_CHECKING:
    from fx_export.exporting import export
    from fx_export.renewing import renew
    from fx_export.several import EntryPoint, export_several

__all__ = ["Bundle", "EntryPoint", "__version__", "export", "export_several", "load", "renew"]

_LATER = {"exporting": ("export",), "renewing": ("renew",), "several": ("EntryPoint", "export_several")}
"""The names of modules that are imported when one of them is first asked for: who loads bundles exports none."""

if not TYPE_CHECKING:  # which would then take every name for one of the package
    __getattr__, __dir__ = lazy_imports(__name__, _LATER)
