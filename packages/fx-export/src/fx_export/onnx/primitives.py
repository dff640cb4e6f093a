"""All translations of this package; importing this registers them."""

from fx_export.onnx import (
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

__all__ = [
    "control",
    "conv",
    "dot",
    "dtypes",
    "elementwise",
    "gather",
    "randomness",
    "reduce",
    "scatter",
    "shapes",
    "sorting",
    "windows",
]
