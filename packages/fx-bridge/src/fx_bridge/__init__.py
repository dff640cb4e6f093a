"""Linen modules inside NNX and NNX modules inside Linen."""

from fx_bridge._version import __version__
from fx_bridge.boxes import NNXMeta
from fx_bridge.convert import convert_variables, to_linen_variables, to_nnx_state
from fx_bridge.report import ConversionReport

__all__ = [
    "ConversionReport",
    "NNXMeta",
    "__version__",
    "convert_variables",
    "to_linen_variables",
    "to_nnx_state",
]
