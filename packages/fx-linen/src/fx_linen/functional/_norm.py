"""Normalisations of a scope."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import norm
from fx_core.ops.initializers import (
    default_bias_init,
    default_scale_init,
    ones,
    zeros,
)
from fx_core.scope import Scope

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]

Axes = int | Sequence[int]


def _scale_and_bias(scope: Scope, shape: Sequence[int], use_scale: bool, use_bias: bool, dtype: Any) -> tuple[Any, Any]:
    specs = norm.norm_params(shape, use_scale, use_bias)
    scale = scope.param("scale", default_scale_init, specs["scale"].shape, dtype) if use_scale else None
    bias = scope.param("bias", default_bias_init, specs["bias"].shape, dtype) if use_bias else None
    return scale, bias


def layer_norm(
    scope: Scope,
    x: jax.Array,
    epsilon: float = 1e-6,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    use_mean: bool = True,
) -> jax.Array:
    """Normalise each example over its features, see `fx_linen.LayerNorm`.

    Args:
      scope: gets ``scale`` and ``bias`` of the shape of the feature axes.
      x: any shape that has the axes.
      epsilon: added to the variance.
      dtype: of the result; None follows input and parameters.
      param_dtype: of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply by a scale.
      reduction_axes: axes that statistics are taken over.
      feature_axes: axes with scale and bias.
      use_mean: whether to subtract the mean.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_layer_norm(jnp.ndim(x), reduction_axes, feature_axes)
    scale, bias = _scale_and_bias(scope, plan.feature_shape(jnp.shape(x)), use_scale, use_bias, param_dtype)
    return norm.layer_norm(plan, x, scale, bias, epsilon=epsilon, dtype=dtype, use_mean=use_mean)


def rms_norm(scope: Scope, x: jax.Array, use_scale: bool = True, **options: Any) -> jax.Array:
    """Divide each example by its root mean square, see `fx_linen.RMSNorm`.

    Args:
      scope: gets ``scale``.
      x: any shape that has the axes.
      use_scale: whether to multiply by a scale.
      **options: those of `layer_norm`.

    Returns:
      An array like ``x``.
    """
    return layer_norm(scope, x, use_bias=False, use_scale=use_scale, use_mean=False, **options)


def group_norm(
    scope: Scope,
    x: jax.Array,
    num_groups: int | None = 32,
    group_size: int | None = None,
    epsilon: float = 1e-6,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
) -> jax.Array:
    """Normalise each group of features of each example, see `fx_linen.GroupNorm`.

    Args:
      scope: gets ``scale`` and ``bias``, one per feature.
      x: shape ``(batch, ..., features)``.
      num_groups: number of groups; None with ``group_size``.
      group_size: features per group.
      epsilon: added to the variance.
      dtype: of the result; None follows input and parameters.
      param_dtype: of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply by a scale.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_group_norm(jnp.shape(x), num_groups, group_size, None)
    scale, bias = _scale_and_bias(scope, plan.feature_shape(jnp.shape(x)), use_scale, use_bias, param_dtype)
    return norm.group_norm(plan, x, scale, bias, epsilon=epsilon, dtype=dtype)


def batch_norm(
    scope: Scope,
    x: jax.Array,
    use_running_average: bool,
    axis: Axes = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-5,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
) -> jax.Array:
    """Normalise each feature over the batch, see `fx_linen.BatchNorm`.

    Args:
      scope: gets ``scale`` and ``bias``, and in ``batch_stats`` the averages ``mean`` and ``var``.
      x: any shape that has the feature axes.
      use_running_average: whether to normalise with the averages instead of the batch.
      axis: feature axes; all others are reduced.
      momentum: weight of the old average.
      epsilon: added to the variance.
      dtype: of the result; None follows input and parameters.
      param_dtype: of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply by a scale.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_batch_norm(jnp.ndim(x), axis)
    shape = plan.feature_shape(jnp.shape(x))
    made = not scope.has_variable("batch_stats", "mean")
    means = scope.variable("batch_stats", "mean", zeros, None, shape, jnp.float32)
    variances = scope.variable("batch_stats", "var", ones, None, shape, jnp.float32)
    mean, var = means.value, variances.value
    if not use_running_average:
        mean, var = norm.moments(x, plan.reduction_axes, dtype=dtype)
        if not made:
            means.value = norm.running_average(means.value, mean, momentum)
            variances.value = norm.running_average(variances.value, var, momentum)
    scale, bias = _scale_and_bias(scope, shape, use_scale, use_bias, param_dtype)
    return norm.batch_norm(plan, x, mean, var, scale, bias, epsilon=epsilon, dtype=dtype)
