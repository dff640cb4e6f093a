"""What the norms over features share."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from fx_core.ops.params import Initializer

from fx_nnx.layers.params import as_array, check_features, make_param, value_of
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs

__all__ = ["NormBase"]


class NormBase(Module):
    """What the layers here share: scale, bias, and how statistics are taken."""

    def _setup(
        self,
        rngs: Rngs,
        shape: tuple[int, ...],
        *,
        scale: tuple[Initializer, Mapping[str, Any]] | None,
        bias: tuple[Initializer, Mapping[str, Any]] | None,
        param_dtype: Any,
        **attributes: Any,
    ) -> None:
        self.scale = data(None if scale is None else make_param(rngs, scale[0], shape, param_dtype, scale[1]))
        self.bias = data(None if bias is None else make_param(rngs, bias[0], shape, param_dtype, bias[1]))
        self.param_dtype = param_dtype
        for name, value in attributes.items():
            setattr(self, name, value)

    def _options(self) -> dict[str, Any]:
        return {
            "epsilon": self.epsilon,
            "dtype": self.dtype,
            "axis_name": self.axis_name,
            "axis_index_groups": self.axis_index_groups,
            "use_fast_variance": self.use_fast_variance,
        }

    def _check(self, x: jax.Array) -> jax.Array:
        # A shard of the parameters meets a shard of the input: what is there counts. Without any, all inputs fit.
        parameter = value_of(self.bias if self.scale is None else self.scale)
        if parameter is None:
            return as_array(self, x)
        return check_features(self, math.prod(parameter.shape), x, axis=self.feature_axes)

    def _promoted(self, x: jax.Array, *variables: Any) -> list[Any]:
        """Input and parameters in one dtype, the parameters in the shape of the feature axes."""
        x, *values = self.promote_dtype((x, *map(value_of, variables)), dtype=self.dtype)
        axes = self.feature_axes
        if isinstance(axes, int) or len(axes) == 1:
            return [x, *values]
        shape = [x.shape[axis] for axis in sorted(axis % x.ndim for axis in axes)]
        return [x, *(None if value is None else value.reshape(shape) for value in values)]

    num_features: int
    num_groups: int
    group_size: int
    reduction_axes: Any
    feature_axes: Any = -1
    epsilon: float
    dtype: Any
    promote_dtype: Callable[..., Any]
    axis_name: Any
    axis_index_groups: Any
    use_fast_variance: bool
