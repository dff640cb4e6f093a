"""Attention: weights and their use, masks, heads and their parameters."""

from fx_core.ops.attention.apply import dot_product_attention
from fx_core.ops.attention.heads import HeadsPlan, attention_params, plan_heads, qk_norm
from fx_core.ops.attention.masks import combine_masks, make_attention_mask, make_causal_mask
from fx_core.ops.attention.plan import AttentionPlan, plan_attention
from fx_core.ops.attention.weights import dot_product_attention_weights

__all__ = [
    "AttentionPlan",
    "HeadsPlan",
    "attention_params",
    "combine_masks",
    "dot_product_attention",
    "dot_product_attention_weights",
    "make_attention_mask",
    "make_causal_mask",
    "plan_attention",
    "plan_heads",
    "qk_norm",
]
