"""Layers: variables around the mathematics of `fx_core.ops`."""

from fx_nnx.layers.batch_norm import BatchNorm
from fx_nnx.layers.conv import Conv, ConvTranspose
from fx_nnx.layers.dropout import Dropout
from fx_nnx.layers.embed import Embed
from fx_nnx.layers.linear import Einsum, Linear, LinearGeneral
from fx_nnx.layers.norm import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from fx_nnx.layers.params import promote_dtype
from fx_nnx.layers.prelu import PReLU

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Einsum",
    "Embed",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Linear",
    "LinearGeneral",
    "PReLU",
    "RMSNorm",
    "promote_dtype",
]
