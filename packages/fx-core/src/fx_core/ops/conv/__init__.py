"""Convolutions: shared, local and transposed."""

from fx_core.ops.conv.apply import conv, conv_local, conv_local_params, masked
from fx_core.ops.conv.plan import ConvPlan, conv_params, plan_conv
from fx_core.ops.conv.transpose import (
    ConvTransposePlan,
    conv_transpose,
    conv_transpose_params,
    plan_conv_transpose,
)

__all__ = [
    "ConvPlan",
    "ConvTransposePlan",
    "conv",
    "conv_local",
    "conv_local_params",
    "conv_params",
    "conv_transpose",
    "conv_transpose_params",
    "masked",
    "plan_conv",
    "plan_conv_transpose",
]
