"""Attention: functions, masks and layers."""

from fx_core.ops.attention import combine_masks, make_attention_mask, make_causal_mask

from fx_linen.attention.functions import dot_product_attention, dot_product_attention_weights
from fx_linen.attention.multi_head import MultiHeadAttention, MultiHeadDotProductAttention, SelfAttention

__all__ = [
    "MultiHeadAttention",
    "MultiHeadDotProductAttention",
    "SelfAttention",
    "combine_masks",
    "dot_product_attention",
    "dot_product_attention_weights",
    "make_attention_mask",
    "make_causal_mask",
]
