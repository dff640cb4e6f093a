"""Weights to PyTorch and from it: names and layouts by rules that are data, without PyTorch.

>>> import fx_export.torch, numpy as np
>>> fx_export.torch.to_torch({"head": {"kernel": np.ones((2, 3), np.float32)}})["head.weight"].shape
(3, 2)
"""

from fx_core.renaming import Rule

from fx_export.errors import BundleError, MissingPackageError
from fx_export.torch.archive import read_pt
from fx_export.torch.convert import from_torch, to_torch
from fx_export.torch.errors import TorchMismatchError, UnknownLayerError
from fx_export.torch.layers import KINDS, LayerRule, Part, TorchArray, linear_rule
from fx_export.torch.layouts import Layout

__all__ = [
    "KINDS",
    "BundleError",
    "LayerRule",
    "Layout",
    "MissingPackageError",
    "Part",
    "Rule",
    "TorchArray",
    "TorchMismatchError",
    "UnknownLayerError",
    "from_torch",
    "linear_rule",
    "read_pt",
    "to_torch",
]
