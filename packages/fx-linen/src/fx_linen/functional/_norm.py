"""Normalizations of a scope."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import norm
from fx_core.ops.initializers import default_bias_init, default_scale_init, ones, zeros
from fx_core.ops.params import Initializer
from fx_core.scope import Scope
from fx_core.typing import Dtype

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]

Axes = int | Sequence[int]


def layer_norm(
    scope: Scope,
    x: jax.Array,
    epsilon: float = 1e-6,
    dtype: Dtype | None = None,
    bias: bool = True,
    scale: bool = True,
    bias_init: Initializer = default_bias_init,
    scale_init: Initializer = default_scale_init,
    *,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    use_mean: bool = True,
    param_dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Normalizes each example over its features, see `fx_linen.LayerNorm`.

    Args:
      scope: gets ``scale`` and ``bias`` of the shape of the feature axes.
      x: any shape that has the axes.
      epsilon: added to the variance.
      dtype: dtype of the result (default: inferred from input and parameters).
      bias: whether to add a bias.
      scale: whether to multiply by a scale.
      bias_init: initializer for the bias.
      scale_init: initializer for the scale.
      reduction_axes: axes that statistics are taken over.
      feature_axes: axes with scale and bias.
      use_mean: whether to subtract the mean.
      param_dtype: dtype of the parameters.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_layer_norm(jnp.ndim(x), reduction_axes, feature_axes)
    shape = plan.feature_shape(jnp.shape(x))
    params = [
        scope.param("scale", scale_init, shape, param_dtype) if scale else None,
        scope.param("bias", bias_init, shape, param_dtype) if bias else None,
    ]
    return norm.layer_norm(plan, x, *params, epsilon=epsilon, dtype=dtype, use_mean=use_mean)


def rms_norm(scope: Scope, x: jax.Array, scale: bool = True, **options: Any) -> jax.Array:
    """Divides each example by its root mean square, see `fx_linen.RMSNorm`.

    Args:
      scope: gets ``scale``.
      x: any shape that has the axes.
      scale: whether to multiply by a scale.
      **options: those of `layer_norm`.

    Returns:
      An array like ``x``.
    """
    return layer_norm(scope, x, bias=False, scale=scale, use_mean=False, **options)


def group_norm(
    scope: Scope,
    x: jax.Array,
    num_groups: int | None = 32,
    group_size: int | None = None,
    epsilon: float = 1e-6,
    dtype: Dtype | None = None,
    bias: bool = True,
    scale: bool = True,
    bias_init: Initializer = default_bias_init,
    scale_init: Initializer = default_scale_init,
    *,
    param_dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Normalizes each group of features of each example, see `fx_linen.GroupNorm`.

    Args:
      scope: gets ``scale`` and ``bias``, of shape ``(1, ..., 1, features)`` here, with as many axes as ``x``.
      x: shape ``(batch, ..., features)``.
      num_groups: number of groups; None with ``group_size``.
      group_size: features per group, in place of their number.
      epsilon: added to the variance.
      dtype: dtype of the result (default: inferred from input and parameters).
      bias: whether to add a bias.
      scale: whether to multiply by a scale.
      bias_init: initializer for the bias.
      scale_init: initializer for the scale.
      param_dtype: dtype of the parameters.

    Returns:
      An array like ``x``.

    Raises:
      ArgumentError: the groups do not divide the features.
    """
    plan = norm.plan_group_norm(jnp.shape(x), num_groups, group_size, None)
    shape = plan.feature_shape(jnp.shape(x))
    stored = (1,) * (jnp.ndim(x) - len(shape)) + shape
    params = [
        scope.param("scale", scale_init, stored, param_dtype).reshape(shape) if scale else None,
        scope.param("bias", bias_init, stored, param_dtype).reshape(shape) if bias else None,
    ]
    return norm.group_norm(plan, x, *params, epsilon=epsilon, dtype=dtype)


def batch_norm(
    scope: Scope,
    x: jax.Array,
    use_running_average: bool = False,
    axis: Axes = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-5,
    dtype: Dtype | None = None,
    bias: bool = True,
    scale: bool = True,
    bias_init: Initializer = default_bias_init,
    scale_init: Initializer = default_scale_init,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    kind: str = "batch_stats",
    *,
    param_dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Normalizes each feature over the batch, see `fx_linen.BatchNorm`.

    Args:
      scope: gets ``scale`` and ``bias``, and in the collection ``kind`` the averages ``mean`` and ``var``.
      x: any shape that has the feature axes.
      use_running_average: whether to normalize with the averages instead of the batch.
      axis: feature axes; all others are reduced.
      momentum: weight of the old average.
      epsilon: added to the variance.
      dtype: dtype of the result (default: inferred from input and parameters).
      bias: whether to add a bias.
      scale: whether to multiply by a scale.
      bias_init: initializer for the bias.
      scale_init: initializer for the scale.
      axis_name: mapped axes to take the statistics over, too; not when the averages are created.
      axis_index_groups: groups of devices along that axis.
      kind: collection of the averages.
      param_dtype: dtype of the parameters.

    Returns:
      An array like ``x``.
    """
    plan = norm.plan_batch_norm(jnp.ndim(x), axis)
    shape = plan.feature_shape(jnp.shape(x))
    made = not scope.has_variable(kind, "mean")
    means = scope.variable(kind, "mean", zeros, None, shape, jnp.float32)
    variances = scope.variable(kind, "var", ones, None, shape, jnp.float32)
    mean, var = means.value, variances.value
    if not use_running_average:
        names = None if made else axis_name
        mean, var = norm.moments(
            x, plan.reduction_axes, dtype=dtype, axis_name=names, axis_index_groups=axis_index_groups
        )
        if not made:
            means.value = norm.running_average(means.value, mean, momentum)
            variances.value = norm.running_average(variances.value, var, momentum)
    params = [
        scope.param("scale", scale_init, shape, param_dtype) if scale else None,
        scope.param("bias", bias_init, shape, param_dtype) if bias else None,
    ]
    return norm.batch_norm(plan, x, mean, var, *params, epsilon=epsilon, dtype=dtype)
