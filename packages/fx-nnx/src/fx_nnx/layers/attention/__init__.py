"""Attention: functions, masks, rotary positions and the layer."""

from fx_core.ops.attention import combine_masks, make_attention_mask, make_causal_mask

from fx_nnx.layers.attention.functions import (
    dot_product_attention,
    dot_product_attention_weights,
    dot_product_attention_with_rope,
)
from fx_nnx.layers.attention.multi_head import MultiHeadAttention
from fx_nnx.layers.attention.rope import RoPE

__all__ = [
    "MultiHeadAttention",
    "RoPE",
    "combine_masks",
    "dot_product_attention",
    "dot_product_attention_weights",
    "dot_product_attention_with_rope",
    "make_attention_mask",
    "make_causal_mask",
]
