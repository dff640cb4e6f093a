"""Modules: objects that know their parts, and containers of them."""

from fx_nnx.modules.containers import Dict, List, Sequential
from fx_nnx.modules.module import Module, iter_children, iter_modules
from fx_nnx.modules.views import view, view_info, with_attributes

__all__ = [
    "Dict",
    "List",
    "Module",
    "Sequential",
    "iter_children",
    "iter_modules",
    "view",
    "view_info",
    "with_attributes",
]
