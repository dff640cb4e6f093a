"""Normalizations: batch, layer, RMS, group and instance norm."""

from fx_core.ops.norm.apply import batch_norm, group_norm, layer_norm
from fx_core.ops.norm.plan import (
    NormPlan,
    group_count,
    norm_params,
    plan_batch_norm,
    plan_group_norm,
    plan_instance_norm,
    plan_layer_norm,
)
from fx_core.ops.norm.statistics import mean_square, moments, running_average
from fx_core.ops.norm.weights import l2_normalize, spectral_norm, weight_axes, weight_norm

__all__ = [
    "NormPlan",
    "batch_norm",
    "group_count",
    "group_norm",
    "l2_normalize",
    "layer_norm",
    "mean_square",
    "moments",
    "norm_params",
    "plan_batch_norm",
    "plan_group_norm",
    "plan_instance_norm",
    "plan_layer_norm",
    "running_average",
    "spectral_norm",
    "weight_axes",
    "weight_norm",
]
