"""Linen modules inside NNX and NNX modules inside Linen."""

from fx_core.traceback_util import hide_package

from fx_bridge._version import __version__
from fx_bridge.boxes import NNXMeta, with_partitioning
from fx_bridge.context import current_context, current_module
from fx_bridge.convert import convert_variables, to_linen_variables, to_nnx_state
from fx_bridge.functional import Functional, functional
from fx_bridge.module import AttrPriority, Module, Scope, compact, linen_in_bridge_mdl, nnx_in_bridge_mdl
from fx_bridge.report import ConversionReport
from fx_bridge.to_linen import ToLinen, to_linen
from fx_bridge.to_nnx import ToNNX, lazy_init

hide_package(__file__)

__all__ = [
    "AttrPriority",
    "ConversionReport",
    "Functional",
    "Module",
    "NNXMeta",
    "Scope",
    "ToLinen",
    "ToNNX",
    "__version__",
    "compact",
    "convert_variables",
    "current_context",
    "current_module",
    "functional",
    "lazy_init",
    "linen_in_bridge_mdl",
    "nnx_in_bridge_mdl",
    "to_linen",
    "to_linen_variables",
    "to_nnx_state",
    "with_partitioning",
]
