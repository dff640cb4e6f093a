"""Layers that are written once, for Linen and for NNX: see `fx_core.layers.Layer`."""

from fx_core.layers.base import (
    Layer,
    call_signature,
    checked_specs,
    dtype_of_params,
    field_types,
    input_axes,
    input_size,
)
from fx_core.layers.specs import ParamSpec, State, Stream
from fx_core.layers.values import Cell, Values

__all__ = [
    "Cell",
    "Layer",
    "ParamSpec",
    "State",
    "Stream",
    "Values",
    "call_signature",
    "checked_specs",
    "dtype_of_params",
    "field_types",
    "input_axes",
    "input_size",
]
