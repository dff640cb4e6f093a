"""Weights to PyTorch and from it: names and layouts by rules that are data, without PyTorch.

>>> import fx_export.torch, numpy as np
>>> fx_export.torch.to_torch({"head": {"kernel": np.ones((2, 3), np.float32)}})["head.weight"].shape
(3, 2)
"""

from fx_core.renaming import Rule

from fx_export.torch.archive import read_pt
from fx_export.torch.convert import from_torch, to_torch
from fx_export.torch.errors import SafetensorsMissingError, TorchFileError, TorchMismatchError, UnknownLayerError
from fx_export.torch.layers import KINDS, LayerRule, Part, TorchArray, linear_rule
from fx_export.torch.layouts import Layout

__all__ = [
    "KINDS",
    "LayerRule",
    "Layout",
    "Part",
    "Rule",
    "SafetensorsMissingError",
    "TorchArray",
    "TorchFileError",
    "TorchMismatchError",
    "UnknownLayerError",
    "from_torch",
    "linear_rule",
    "read_pt",
    "to_torch",
]
