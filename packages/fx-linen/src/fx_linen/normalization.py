"""Normalizations. The arithmetic is in `fx_core.ops.norm`.

They share these attributes:

- ``epsilon`` is added to the variance;
- ``dtype`` of the result; None follows inputs and parameters;
- ``param_dtype`` of the parameters ``scale`` and ``bias``, which have the shape of the feature axes;
- ``use_scale``, ``use_bias``, ``scale_init``, ``bias_init``;
- ``axis_name``: a mapped axis, or several, to take the statistics over, too;
- ``axis_index_groups``: groups of devices along it that share statistics;
- ``use_fast_variance``: ``E[x²] - E[x]²`` in one pass, instead of ``E[(x - E[x])²]``. `LayerNorm`, `GroupNorm` and
  `InstanceNorm` subtract one of the values first, so that it is exact for data far from zero, too. `BatchNorm`, and
  every norm with an ``axis_name``, cannot do that without talking to other devices: set it to False where the mean of a
  feature is more than a thousand times its deviation;
- ``force_float32_reductions``: statistics at least in float32.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import norm
from fx_core.ops.initializers import default_bias_init, default_scale_init, ones, zeros
from fx_core.ops.params import Initializer, ParamSpec
from fx_core.typing import Dtype

from fx_linen.module import Module, compact, merge_param

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]

Axes = int | Sequence[int]


class BatchNorm(Module):
    """Normalization of each feature over the batch while training, and by running averages afterwards.

    Ioffe and Szegedy, *Batch Normalization*, 2015. The averages live in the collection ``batch_stats`` as ``mean`` and
    ``var``: make it mutable when training. ``init`` creates them and leaves them at zero and one.

    Attributes:
      use_running_average: whether to normalize with the running averages; given here or in the call.
      axis: feature axes; all others are reduced.
      momentum: weight of the old average.
      epsilon: added to the variance; the other attributes are those of all normalizations, see the module.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> x, layer = jnp.arange(4.0).reshape(4, 1), nn.BatchNorm(momentum=0.5)
    >>> variables = layer.init(jax.random.key(0), x, use_running_average=False)
    >>> y, updates = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    >>> updates["batch_stats"]["mean"]
    Array([0.75], dtype=float32)
    """

    use_running_average: bool | None = None
    axis: Axes = -1
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = default_bias_init
    scale_init: Initializer = default_scale_init
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True

    @compact
    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalizes.

        Args:
          x: any shape that has the feature axes.
          use_running_average: whether to use the averages, if the constructor did not say.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.

        Raises:
          ShapeMismatchError: an axis is outside the input.
        """
        use_running_average = merge_param("use_running_average", self.use_running_average, use_running_average)
        plan = norm.plan_batch_norm(jnp.ndim(x), self.axis)
        shape = plan.feature_shape(jnp.shape(x))
        stat_dtype = jnp.float32 if self.force_float32_reductions else self.param_dtype
        running_mean = self.variable("batch_stats", "mean", zeros, None, shape, stat_dtype)
        running_var = self.variable("batch_stats", "var", ones, None, shape, stat_dtype)
        if use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            initializing = self.is_initializing()
            mean, var = norm.moments(
                x,
                plan.reduction_axes,
                dtype=self.dtype,
                # The axis need not be there yet: init may run outside the map that binds it.
                axis_name=None if initializing else self.axis_name,
                axis_index_groups=self.axis_index_groups,
                use_fast_variance=self.use_fast_variance,
                mask=mask,
                force_float32_reductions=self.force_float32_reductions,
            )
            if not initializing:
                running_mean.value = norm.running_average(running_mean.value, mean, self.momentum)
                running_var.value = norm.running_average(running_var.value, var, self.momentum)
        scale, bias = _scale_and_bias(self, norm.norm_params(shape, self.use_scale, self.use_bias))
        return norm.batch_norm(plan, x, mean, var, scale, bias, epsilon=self.epsilon, dtype=self.dtype)


class LayerNorm(Module):
    """Normalization of each example over its features.

    Ba et al., *Layer Normalization*, 2016.

    Attributes:
      epsilon: added to the variance.
      reduction_axes: axes that statistics are taken over.
      feature_axes: axes with scale and bias; the other attributes are those of all normalizations, see the module.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> nn.LayerNorm(epsilon=0.0).init_with_output(jax.random.key(0), jnp.array([[1.0, 3.0]]))[0]
    Array([[-1.,  1.]], dtype=float32)
    """

    epsilon: float = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = default_bias_init
    scale_init: Initializer = default_scale_init
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True

    @compact
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: any shape that has the axes.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.

        Raises:
          ShapeMismatchError: an axis is outside the input.
        """
        plan = norm.plan_layer_norm(jnp.ndim(x), self.reduction_axes, self.feature_axes)
        return _normalized(self, plan, x, mask)


class RMSNorm(Module):
    """Divide each example by its root mean square.

    Zhang and Sennrich, *Root Mean Square Layer Normalization*, 2019.

    Attributes:
      epsilon: added to the mean square.
      reduction_axes: axes that the mean square is taken over.
      feature_axes: axes with a scale; the other attributes are those of all normalizations, see the module.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> nn.RMSNorm(epsilon=0.0).init_with_output(jax.random.key(0), jnp.array([[-2.0, 2.0]]))[0]
    Array([[-1.,  1.]], dtype=float32)
    """

    epsilon: float = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_scale: bool = True
    scale_init: Initializer = default_scale_init
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True

    @compact
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: any shape that has the axes.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.

        Raises:
          ShapeMismatchError: an axis is outside the input.
        """
        plan = norm.plan_layer_norm(jnp.ndim(x), self.reduction_axes, self.feature_axes)
        return _normalized(self, plan, x, mask, use_mean=False)


class InstanceNorm(Module):
    """Normalization of each feature of each example over its positions.

    Ulyanov et al., *Instance Normalization*, 2017.

    Attributes:
      epsilon: added to the variance.
      feature_axes: axes with scale and bias; all others but the first are reduced. The other attributes are those of
        all normalizations, see the module.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> x = jnp.array([[[1.0], [3.0]]])
    >>> nn.InstanceNorm(epsilon=0.0).init_with_output(jax.random.key(0), x)[0].tolist()
    [[[-1.0], [1.0]]]
    """

    epsilon: float = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = default_bias_init
    scale_init: Initializer = default_scale_init
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True

    @compact
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: any shape that has the axes.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.

        Raises:
          ArgumentError: the batch axis is among the features.
          ShapeMismatchError: an axis is outside the input.
        """
        return _normalized(self, norm.plan_instance_norm(jnp.ndim(x), self.feature_axes), x, mask)


class GroupNorm(Module):
    """Normalization of each group of features of each example over its positions.

    Wu and He, *Group Normalization*, 2018.

    Attributes:
      num_groups: number of groups; None together with ``group_size``.
      group_size: features per group.
      epsilon: added to the variance.
      reduction_axes: axes that statistics are taken over, the last among them; all but the first if None. The other
        attributes are those of all normalizations, see the module.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> x = jnp.array([[1.0, 3.0, 10.0, 30.0]])
    >>> nn.GroupNorm(num_groups=2, epsilon=0.0).init_with_output(jax.random.key(0), x)[0]
    Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    num_groups: int | None = 32
    group_size: int | None = None
    epsilon: float = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = default_bias_init
    scale_init: Initializer = default_scale_init
    reduction_axes: Axes | None = None
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True

    @compact
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: shape ``(..., features)``.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.

        Raises:
          ArgumentError: both or none of the group arguments are given, or the features do not divide.
          ArgumentError: the last axis is not reduced.
        """
        plan = norm.plan_group_norm(jnp.shape(x), self.num_groups, self.group_size, self.reduction_axes)
        specs = norm.norm_params(plan.feature_shape(jnp.shape(x)), self.use_scale, self.use_bias)
        scale, bias = _scale_and_bias(self, specs)
        return norm.group_norm(plan, x, scale, bias, mask=mask, **_options(self))


def _normalized(layer: Any, plan: norm.NormPlan, x: jax.Array, mask: Any, use_mean: bool = True) -> jax.Array:
    use_bias = getattr(layer, "use_bias", False)  # RMS norms have none
    specs = norm.norm_params(plan.feature_shape(jnp.shape(x)), layer.use_scale, use_bias)
    scale, bias = _scale_and_bias(layer, specs)
    return norm.layer_norm(plan, x, scale, bias, mask=mask, use_mean=use_mean, **_options(layer))


def _scale_and_bias(layer: Any, specs: Mapping[str, ParamSpec]) -> tuple[Any, Any]:
    scale = bias = None
    if "scale" in specs:
        scale = layer.param("scale", layer.scale_init, specs["scale"].shape, layer.param_dtype)
    if "bias" in specs:
        bias = layer.param("bias", layer.bias_init, specs["bias"].shape, layer.param_dtype)
    return scale, bias


def _options(layer: Any) -> dict[str, Any]:
    return {
        "epsilon": layer.epsilon,
        "dtype": layer.dtype,
        "axis_name": layer.axis_name,
        "axis_index_groups": layer.axis_index_groups,
        "use_fast_variance": layer.use_fast_variance,
        "force_float32_reductions": layer.force_float32_reductions,
    }
