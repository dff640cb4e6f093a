"""Modules: objects that know their parts, and containers of them."""

from typing import TYPE_CHECKING

from fx_core.lazy_imports import lazy_imports

from fx_nnx.modules.containers import Dict, List, Sequential
from fx_nnx.modules.module import Module, iter_children, iter_module_children, iter_modules
from fx_nnx.modules.views import view, view_info, with_attributes

__all__ = [
    "Dict",
    "List",
    "Module",
    "Sequential",
    "iter_children",
    "iter_module_children",
    "iter_modules",
    "view",
    "view_info",
    "with_attributes",
]

_LATER = {"capture": (), "intercept": ()}
"""The modules that are imported when they are first asked for."""

if not TYPE_CHECKING:  # which would then take every name for one of the package
    __getattr__, __dir__ = lazy_imports(__name__, _LATER)
