"""All translations of this package; importing this registers them."""

from fx_export.onnx import (
    bits,
    control,
    conv,
    dot,
    dtypes,
    elementwise,
    gather,
    randomness,
    reduce,
    scatter,
    shapes,
    sorting,
    windows,
)
from fx_export.onnx.registry import own_primitives

__all__ = [
    "bits",
    "control",
    "conv",
    "dot",
    "dtypes",
    "elementwise",
    "gather",
    "own_primitives",
    "randomness",
    "reduce",
    "scatter",
    "shapes",
    "sorting",
    "windows",
]
