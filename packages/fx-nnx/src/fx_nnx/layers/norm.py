"""Normalization over features and groups of features: layer, RMS, group and instance norm."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import norm
from fx_core.ops.initializers import default_bias_init, default_scale_init
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype

from fx_nnx.layers.norm_base import NormBase, checked, options_of, promoted
from fx_nnx.layers.params import located, promote_dtype
from fx_nnx.rngs.rngs import Rngs

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm", "RMSNorm"]

Axes = int | Sequence[int]
_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class LayerNorm(NormBase):
    """Normalizes each example over its features.

    Ba et al., *Layer Normalization*, 2016.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> LayerNorm(2, rngs=nnx.Rngs(0))(jnp.array([[1.0, 3.0]])).round(2)
    Array([[-1.,  1.]], dtype=float32)

    Args:
      num_features: size of the feature axes.
      epsilon: added to the variance.
      dtype: dtype of the computation and the result (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply with a scale.
      bias_init: initializer for the bias.
      scale_init: initializer for the scale.
      reduction_axes: axes that statistics are taken over.
      feature_axes: axes with a scale and bias of their own.
      axis_name: a mapped axis over which statistics are averaged, too.
      axis_index_groups: groups of devices along that axis.
      use_fast_variance: compute the variance in one pass; exact far from zero, too, unless there is an ``axis_name``.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      bias_metadata: metadata of the variable ``bias``.
      scale_metadata: metadata of the variable ``scale``.
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = default_bias_init,
        scale_init: Initializer = default_scale_init,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
        scale_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self._setup(
            locals(),
            scale=(scale_init, scale_metadata) if use_scale else None,
            bias=(bias_init, bias_metadata) if use_bias else None,
        )

    @located
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: an array of any number of dimensions.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.
        """
        x = checked(self, x)
        plan = norm.plan_layer_norm(x.ndim, self.reduction_axes, self.feature_axes)
        x, scale, bias = promoted(self, x, self.scale, self.bias)
        return norm.layer_norm(plan, x, scale, bias, mask=mask, **options_of(self))


class RMSNorm(NormBase):
    """Divides each example by the root of the mean square of its features.

    Zhang and Sennrich, *Root Mean Square Layer Normalization*, 2019.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> RMSNorm(2, rngs=nnx.Rngs(0))(jnp.array([[3.0, -3.0]])).round(2)
    Array([[ 1., -1.]], dtype=float32)

    Args:
      num_features: size of the feature axes.
      epsilon: added to the variance.
      dtype: dtype of the computation and the result (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      use_scale: whether to multiply with a scale.
      scale_init: initializer for the scale.
      reduction_axes: axes that statistics are taken over.
      feature_axes: axes with a scale and bias of their own.
      axis_name: a mapped axis over which statistics are averaged, too.
      axis_index_groups: groups of devices along that axis.
      use_fast_variance: no effect, the mean of squares takes one pass.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      scale_metadata: metadata of the variable ``scale``.
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        use_scale: bool = True,
        scale_init: Initializer = default_scale_init,
        reduction_axes: Axes = -1,
        feature_axes: Axes = -1,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        scale_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self._setup(
            locals(),
            scale=(scale_init, scale_metadata) if use_scale else None,
            bias=None,
        )

    @located
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: an array of any number of dimensions.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.
        """
        x = checked(self, x)
        plan = norm.plan_layer_norm(x.ndim, self.reduction_axes, self.feature_axes)
        x, scale = promoted(self, x, self.scale)
        return norm.layer_norm(plan, x, scale, use_mean=False, mask=mask, **options_of(self))


class GroupNorm(NormBase):
    """Normalizes each example over groups of features.

    Wu and He, *Group Normalization*, 2018.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> GroupNorm(4, num_groups=2, rngs=nnx.Rngs(0))(jnp.ones((1, 3, 4))).shape
    (1, 3, 4)

    Args:
      num_features: size of the feature axes.
      num_groups: number of groups, or None.
      group_size: features per group, or None: exactly one of the two is given.
      epsilon: added to the variance.
      dtype: dtype of the computation and the result (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply with a scale.
      bias_init: initializer for the bias.
      scale_init: initializer for the scale.
      reduction_axes: axes that statistics are taken over; all but the first if None.
      axis_name: a mapped axis over which statistics are averaged, too.
      axis_index_groups: groups of devices along that axis.
      use_fast_variance: compute the variance in one pass; exact far from zero, too, unless there is an ``axis_name``.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      bias_metadata: metadata of the variable ``bias``.
      scale_metadata: metadata of the variable ``scale``.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int | None = 32,
        group_size: int | None = None,
        *,
        epsilon: float = 1e-6,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = default_bias_init,
        scale_init: Initializer = default_scale_init,
        reduction_axes: Axes | None = None,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
        scale_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        num_groups = norm.group_count(num_features, num_groups, group_size)
        group_size = num_features // num_groups
        self._setup(
            locals(),
            scale=(scale_init, scale_metadata) if use_scale else None,
            bias=(bias_init, bias_metadata) if use_bias else None,
        )
        self.feature_axis = -1

    def __describe__(self) -> dict[str, Any]:
        return {"num_groups": self.num_groups, "group_size": None}

    @located
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: an array of any number of dimensions.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.
        """
        x = checked(self, x)
        # A shard of the features, next to the same shard of scale and bias, has fewer groups of the same size.
        any_features = self.scale is None and self.bias is None
        groups = (self.num_groups, None) if any_features else (None, self.group_size)
        plan = norm.plan_group_norm(x.shape, *groups, self.reduction_axes)
        x, scale, bias = promoted(self, x, self.scale, self.bias)
        return norm.group_norm(plan, x, scale, bias, mask=mask, **options_of(self))


class InstanceNorm(NormBase):
    """Normalizes each feature of each example over space.

    Ulyanov et al., *Instance Normalization*, 2016.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> InstanceNorm(3, rngs=nnx.Rngs(0))(jnp.ones((1, 4, 3))).shape
    (1, 4, 3)

    Args:
      num_features: size of the feature axes.
      epsilon: added to the variance.
      dtype: dtype of the computation and the result (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply with a scale.
      bias_init: initializer for the bias.
      scale_init: initializer for the scale.
      feature_axes: axes with a scale and bias of their own.
      axis_name: a mapped axis over which statistics are averaged, too.
      axis_index_groups: groups of devices along that axis.
      use_fast_variance: compute the variance in one pass; exact far from zero, too, unless there is an ``axis_name``.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      bias_metadata: metadata of the variable ``bias``.
      scale_metadata: metadata of the variable ``scale``.
    """

    def __init__(
        self,
        num_features: int,
        *,
        epsilon: float = 1e-6,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = default_bias_init,
        scale_init: Initializer = default_scale_init,
        feature_axes: Axes = -1,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
        scale_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self._setup(
            locals(),
            scale=(scale_init, scale_metadata) if use_scale else None,
            bias=(bias_init, bias_metadata) if use_bias else None,
        )

    @located
    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """Normalizes.

        Args:
          x: an array of any number of dimensions.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.
        """
        x = checked(self, x)
        plan = norm.plan_instance_norm(x.ndim, self.feature_axes)
        x, scale, bias = promoted(self, x, self.scale, self.bias)
        return norm.layer_norm(plan, x, scale, bias, mask=mask, **options_of(self))
