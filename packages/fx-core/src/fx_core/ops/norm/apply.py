"""Subtracting the mean, dividing by the deviation, scaling and shifting."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.array_node import array_of
from fx_core.ops.broadcast import along
from fx_core.ops.dtypes import canonicalize_dtype
from fx_core.ops.norm.plan import NormPlan
from fx_core.ops.norm.statistics import boolean_mask, mean_square, moments
from fx_core.ops.recorded import recorded_once
from fx_core.typing import Dtype

__all__ = ["batch_norm", "group_norm", "layer_norm"]


def layer_norm(
    plan: NormPlan,
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-6,
    dtype: Dtype | None = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    use_mean: bool = True,
    use_fast_variance: bool = True,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
) -> jax.Array:
    """Normalizes with the statistics of the planned axes: layer norm, instance norm, RMS norm.

    Ba et al., *Layer Normalization*, 2016; Ulyanov et al., *Instance Normalization*, 2017; Zhang and Sennrich, *Root
    Mean Square Layer Normalization*, 2019 (``use_mean=False``).

    Args:
      plan: from `plan_layer_norm` or `plan_instance_norm`.
      x: an array of the planned number of dimensions.
      scale: shape of the feature axes, or None.
      bias: shape of the feature axes, or None.
      epsilon: added to the variance.
      dtype: of the result; the promoted dtype of the arguments if None.
      axis_name: see `moments`, as the following ones.
      axis_index_groups: groups of devices that average among themselves.
      use_mean: False leaves the mean in.
      use_fast_variance: one pass.
      mask: True, or a number other than 0, where a value counts; broadcasts to ``x``.
      force_float32_reductions: reduce at least in float32.

    Returns:
      An array like ``x``.

    >>> import jax.numpy as jnp
    >>> from fx_core.ops.norm import plan_layer_norm
    >>> layer_norm(plan_layer_norm(1), jnp.array([1.0, 3.0]), epsilon=0.0)
    Array([-1.,  1.], dtype=float32)
    """
    options: dict[str, Any] = {
        "plan": plan,
        "epsilon": epsilon,
        "dtype": dtype,
        "use_mean": use_mean,
        "use_fast_variance": use_fast_variance,
        "force_float32_reductions": force_float32_reductions,
    }
    if axis_name is None and mask is None:
        return recorded_once(_layer_norm, (x, scale, bias), options)
    return _layer_norm(x, scale, bias, **options, axis_name=axis_name, axis_index_groups=axis_index_groups, mask=mask)


def _layer_norm(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    *,
    plan: NormPlan,
    epsilon: float,
    dtype: Dtype,
    use_mean: bool,
    use_fast_variance: bool,
    **reduction: Any,
) -> jax.Array:
    axes, mean = plan.reduction_axes, None
    reduction["dtype"] = dtype
    if use_mean:
        mean, var = moments(x, axes, use_fast_variance=use_fast_variance, local=True, **reduction)
        mean = lax.expand_dims(mean, axes)
    else:
        var = mean_square(x, axes, **reduction)
    return _normalize(plan, x, mean, lax.expand_dims(var, axes), scale, bias, epsilon, dtype)


def batch_norm(
    plan: NormPlan,
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-5,
    dtype: Dtype | None = None,
) -> jax.Array:
    """Normalizes with given statistics: those of the batch (`moments`) or their running average.

    Ioffe and Szegedy, *Batch Normalization*, 2015.

    Args:
      plan: from `plan_batch_norm`.
      x: an array of the planned number of dimensions.
      mean: shape of the feature axes.
      var: shape of the feature axes.
      scale: shape of the feature axes, or None.
      bias: shape of the feature axes, or None.
      epsilon: added to the variance.
      dtype: of the result; the promoted dtype of ``x``, scale and bias if None.

    Returns:
      An array like ``x``.

    >>> import jax.numpy as jnp
    >>> from fx_core.ops.norm import plan_batch_norm
    >>> batch_norm(plan_batch_norm(2), jnp.array([[2.0], [4.0]]), jnp.array([3.0]), jnp.array([4.0]), epsilon=0.0)
    Array([[-0.5], [ 0.5]], dtype=float32)
    """
    options: dict[str, Any] = {"plan": plan, "epsilon": epsilon, "dtype": dtype}
    return recorded_once(_batch_norm, (x, mean, var, scale, bias), options)


def _batch_norm(x: Any, mean: Any, var: Any, scale: Any, bias: Any, *, plan: NormPlan, **options: Any) -> jax.Array:
    mean, var = (lax.expand_dims(array_of(statistic), plan.reduction_axes) for statistic in (mean, var))
    return _normalize(plan, x, mean, var, scale, bias, **options)


def group_norm(
    plan: NormPlan,
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    epsilon: float = 1e-6,
    dtype: Dtype | None = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    use_fast_variance: bool = True,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
) -> jax.Array:
    """Normalizes each group of features with its own statistics.

    Wu and He, *Group Normalization*, 2018.

    Args:
      plan: from `plan_group_norm`.
      x: an array of the planned number of dimensions.
      scale: shape ``(features,)``, or None.
      bias: shape ``(features,)``, or None.
      epsilon: added to the variance.
      dtype: of the result; the promoted dtype of the arguments if None.
      axis_name: see `moments`, as the following ones.
      axis_index_groups: groups of devices that average among themselves.
      use_fast_variance: one pass.
      mask: True, or a number other than 0, where a value counts; broadcasts to ``x``.
      force_float32_reductions: reduce at least in float32.

    Returns:
      An array like ``x``.

    >>> import jax.numpy as jnp
    >>> from fx_core.ops.norm import plan_group_norm
    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> group_norm(plan_group_norm(x.shape, num_groups=2), x, epsilon=0.0)
    Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    options: dict[str, Any] = {
        "plan": plan,
        "epsilon": epsilon,
        "dtype": dtype,
        "use_fast_variance": use_fast_variance,
        "force_float32_reductions": force_float32_reductions,
    }
    if axis_name is None and mask is None:
        return recorded_once(_group_norm, (x, scale, bias), options)
    return _group_norm(x, scale, bias, **options, axis_name=axis_name, axis_index_groups=axis_index_groups, mask=mask)


def _group_norm(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    *,
    plan: NormPlan,
    epsilon: float,
    dtype: Dtype,
    mask: jax.Array | None = None,
    **reduction: Any,
) -> jax.Array:
    groups = plan.groups or 1
    size = x.shape[-1] // groups
    mask = boolean_mask(mask, x)
    if mask is not None and mask.ndim:
        tail = (1, 1) if mask.shape[-1] == 1 else (groups, size)
        mask = mask.reshape((*mask.shape[:-1], *tail))
    # With the groups split off, the last axis (now `ndim`) is reduced and the one before it is kept.
    axes = (*plan.reduction_axes[:-1], plan.ndim)
    mean, var = moments(
        x.reshape((*x.shape[:-1], groups, size)),
        axes,
        dtype=dtype,
        mask=mask,
        local=True,
        **reduction,
    )

    def per_feature(stat: jax.Array) -> jax.Array:
        return jnp.repeat(lax.expand_dims(stat, axes[:-1]), size, axis=-1)

    return _normalize(plan, x, per_feature(mean), per_feature(var), scale, bias, epsilon, dtype)


def _normalize(
    plan: NormPlan,
    x: jax.Array,
    mean: jax.Array | None,
    var: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    epsilon: float,
    dtype: Dtype,
) -> jax.Array:
    """Normalize, with statistics that broadcast to ``x``."""
    factor = lax.rsqrt(var + epsilon)
    if scale is not None:
        factor = factor * along(scale, plan.broadcast_axes)
    y = (x if mean is None else x - mean) * factor
    if bias is not None:
        y = y + along(bias, plan.broadcast_axes)
    return jnp.asarray(y, canonicalize_dtype(x, scale, bias, dtype=dtype))
