"""What the norms over features share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype

from fx_nnx.layers.params import as_array, check_features, keep_arguments, make_param, value_of
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data

__all__ = ["NormBase", "checked", "options_of", "promoted"]


class NormBase(Module):
    """What the layers here share: scale, bias, and how statistics are taken."""

    def _setup(
        self,
        arguments: Mapping[str, Any],
        scale: tuple[Initializer, Mapping[str, Any]] | None,
        bias: tuple[Initializer, Mapping[str, Any]] | None,
    ) -> None:
        """Keep the arguments of the initializer that are declared below, and make the parameters."""
        keep_arguments(self, NormBase, arguments)
        for axes in ("reduction_axes", "feature_axes"):
            if isinstance(arguments.get(axes), Sequence):
                setattr(self, axes, tuple(arguments[axes]))
        rngs, shape, dtype = arguments["rngs"], (self.num_features,), self.param_dtype
        self.scale = data(None if scale is None else make_param(rngs, scale[0], shape, dtype, scale[1]))
        self.bias = data(None if bias is None else make_param(rngs, bias[0], shape, dtype, bias[1]))

    num_features: int
    num_groups: int
    group_size: int
    reduction_axes: Any
    feature_axes: Any = -1
    epsilon: float
    dtype: Dtype | None
    param_dtype: Dtype
    use_bias: bool
    use_scale: bool
    promote_dtype: Callable[..., Any]
    axis_name: Any
    axis_index_groups: Any
    use_fast_variance: bool


# These are functions of any object with the attributes of a layer, as the calls of the layers are.


def options_of(layer: Any) -> dict[str, Any]:
    """Returns what the functions of `fx_core.ops.norm` take by name."""
    return {
        "epsilon": layer.epsilon,
        "dtype": layer.dtype,
        "axis_name": layer.axis_name,
        "axis_index_groups": layer.axis_index_groups,
        "use_fast_variance": layer.use_fast_variance,
    }


def checked(layer: Any, x: jax.Array) -> jax.Array:
    """Returns the input as an array, once its features are those of the parameters.

    Raises:
      ShapeMismatchError: they are not.
    """
    # A shard of the parameters meets a shard of the input: what is there counts. Without any, all inputs fit.
    parameter = value_of(layer.bias if layer.scale is None else layer.scale)
    if parameter is None:
        return as_array(layer, x)
    return check_features(layer, math.prod(parameter.shape), x, axis=getattr(layer, "feature_axes", -1))


def promoted(layer: Any, x: jax.Array, *variables: Any) -> list[Any]:
    """Returns input and parameters in one dtype, the parameters in the shape of the feature axes."""
    x, *values = layer.promote_dtype((x, *map(value_of, variables)), dtype=layer.dtype)
    axes = getattr(layer, "feature_axes", -1)
    if isinstance(axes, int) or len(axes) == 1:
        return [x, *values]
    shape = [x.shape[axis] for axis in sorted(axis % x.ndim for axis in axes)]
    return [x, *(None if value is None else value.reshape(shape) for value in values)]
