"""Layers: variables around the mathematics of `fx_core.ops`."""

from typing import TYPE_CHECKING

from fx_core.lazy_imports import lazy_imports

from fx_nnx.layers.batch_norm import BatchNorm
from fx_nnx.layers.conv import Conv, ConvTranspose
from fx_nnx.layers.dropout import Dropout
from fx_nnx.layers.embed import Embed
from fx_nnx.layers.linear import Einsum, Linear, LinearGeneral
from fx_nnx.layers.norm import GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from fx_nnx.layers.params import promote_dtype
from fx_nnx.layers.prelu import PReLU

if TYPE_CHECKING:
    from fx_nnx.layers.attention import (
        MultiHeadAttention,
        RoPE,
        combine_masks,
        dot_product_attention,
        dot_product_attention_with_rope,
        make_attention_mask,
        make_causal_mask,
    )
    from fx_nnx.layers.lora import LoRA, LoRALinear, LoRAParam
    from fx_nnx.layers.recurrent import (
        RNN,
        Bidirectional,
        GRUCell,
        LSTMCell,
        OptimizedLSTMCell,
        RNNCellBase,
        SimpleCell,
    )
    from fx_nnx.layers.weight_norm import SpectralNorm, WeightNorm

__all__ = [
    "RNN",
    "BatchNorm",
    "Bidirectional",
    "Conv",
    "ConvTranspose",
    "Dropout",
    "Einsum",
    "Embed",
    "GRUCell",
    "GroupNorm",
    "InstanceNorm",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LinearGeneral",
    "LoRA",
    "LoRALinear",
    "LoRAParam",
    "MultiHeadAttention",
    "OptimizedLSTMCell",
    "PReLU",
    "RMSNorm",
    "RNNCellBase",
    "RoPE",
    "SimpleCell",
    "SpectralNorm",
    "WeightNorm",
    "combine_masks",
    "dot_product_attention",
    "dot_product_attention_with_rope",
    "make_attention_mask",
    "make_causal_mask",
    "promote_dtype",
]

_LATER = {
    "attention": (
        "MultiHeadAttention",
        "RoPE",
        "combine_masks",
        "dot_product_attention",
        "dot_product_attention_with_rope",
        "make_attention_mask",
        "make_causal_mask",
    ),
    "lora": ("LoRA", "LoRALinear", "LoRAParam"),
    "recurrent": ("RNN", "Bidirectional", "GRUCell", "LSTMCell", "OptimizedLSTMCell", "RNNCellBase", "SimpleCell"),
    "weight_norm": ("SpectralNorm", "WeightNorm"),
}
"""The names of modules that are imported when one of them is first asked for."""

if not TYPE_CHECKING:  # which would then take every name for one of the package
    __getattr__, __dir__ = lazy_imports(__name__, _LATER)
