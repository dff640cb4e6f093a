"""Batch normalization."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import norm
from fx_core.ops.initializers import default_bias_init, default_scale_init, ones, zeros
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype

from fx_nnx.layers.dropout import chosen
from fx_nnx.layers.params import check_features, located, make_param, promote_dtype, value_of
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.variables.kinds import BatchStat

__all__ = ["BatchNorm"]

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class BatchNorm(Module):
    """Normalizes with the statistics of the batch while training, with running averages of them in evaluation.

    Ioffe and Szegedy, *Batch Normalization*, 2015.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> layer = BatchNorm(1, momentum=0.5, rngs=nnx.Rngs(0))
    >>> y = layer(jnp.array([[0.0], [2.0]]))
    >>> layer.mean[...]
    Array([0.5], dtype=float32)

    Args:
      num_features: size of the feature axis.
      use_running_average: whether to use the running averages; None leaves that to each call.
      axis: the feature axis.
      momentum: weight of the old running average.
      epsilon: added to the variance.
      dtype: dtype of the computation and the result (default: inferred from input and parameters).
      param_dtype: dtype of the parameters.
      use_bias: whether to add a bias.
      use_scale: whether to multiply with a scale.
      bias_init: initializer for the bias.
      scale_init: initializer for the scale.
      axis_name: a mapped axis over which statistics are averaged, too.
      axis_index_groups: groups of devices along that axis.
      use_fast_variance: compute the variance in one pass, as ``E[x²] - E[x]²``. Set it to False where the mean of a
        feature is more than a thousand times its deviation.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      bias_metadata: metadata of the variable ``bias``.
      scale_metadata: metadata of the variable ``scale``.
    """

    def __init__(
        self,
        num_features: int,
        *,
        use_running_average: bool | None = False,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = default_bias_init,
        scale_init: Initializer = default_scale_init,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
        scale_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        shape = (num_features,)
        self.mean = BatchStat(zeros(None, shape, jnp.float32))
        self.var = BatchStat(ones(None, shape, jnp.float32))
        self.scale = data(make_param(rngs, scale_init, shape, param_dtype, scale_metadata) if use_scale else None)
        self.bias = data(make_param(rngs, bias_init, shape, param_dtype, bias_metadata) if use_bias else None)
        self.num_features, self.use_running_average, self.axis = num_features, use_running_average, axis
        self.momentum, self.epsilon, self.dtype, self.param_dtype = momentum, epsilon, dtype, param_dtype
        self.use_bias, self.use_scale = use_bias, use_scale
        self.axis_name, self.axis_index_groups = axis_name, axis_index_groups
        self.use_fast_variance, self.promote_dtype = use_fast_variance, promote_dtype

    @located
    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalizes, and updates the running averages if the statistics of the batch are used.

        Args:
          x: an array with ``num_features`` along the feature axis.
          use_running_average: instead of what the layer says.
          mask: True, or not 0, where a value counts; broadcasts to ``x``.

        Returns:
          An array like ``x``.

        Raises:
          ShapeMismatchError: the input has another number of features.
          NnxError: neither layer nor call say which statistics to use.
        """
        x = check_features(self, value_of(self.mean).shape[0], x, axis=self.axis)
        running = chosen("BatchNorm", "use_running_average", use_running_average, self.use_running_average)
        plan = norm.plan_batch_norm(x.ndim, self.axis)
        values = (x, *map(value_of, (self.mean, self.var, self.scale, self.bias)))
        x, mean, var, scale, bias = self.promote_dtype(values, dtype=self.dtype)
        if not running:
            mean, var = norm.moments(
                x,
                plan.reduction_axes,
                dtype=self.dtype,
                axis_name=self.axis_name,
                axis_index_groups=self.axis_index_groups,
                use_fast_variance=self.use_fast_variance,
                mask=mask,
            )
            for variable, new in ((self.mean, mean), (self.var, var)):
                old = variable.get_value()
                # Statistics of float64 or for averages in bfloat16 must not change the dtype of what is kept.
                variable.set_value(norm.running_average(old, new, self.momentum).astype(old.dtype))
        return norm.batch_norm(plan, x, mean, var, scale, bias, epsilon=self.epsilon, dtype=self.dtype)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets what the layer does from now on.

        Args:
          use_running_average: Whether to use running statistics; None leaves it as it is.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average
