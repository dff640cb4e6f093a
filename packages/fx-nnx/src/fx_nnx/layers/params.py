"""What layers share: making parameters and promoting dtypes."""

from collections.abc import Callable, Mapping
from typing import Any

from fx_core.errors.nnx_layers import LayerInputError, RngsTypeError
from fx_core.ops import dtypes

from fx_nnx.locate import path_of
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.variables.kinds import Param

__all__ = ["check_features", "make_param", "promote_dtype", "set_options", "value_of"]

Promotion = Callable[..., Any]


def promote_dtype(args: Any, /, *, dtype: Any = None, inexact: bool = True) -> tuple[Any, ...]:
    """Give some arrays in one dtype; see `fx_core.ops.dtypes.promote_dtype`.

    Args:
      args: arrays, scalars, or None, which stays None.
      dtype: the wanted dtype; by default what the arrays promote to.
      inexact: whether integers become floating point.

    >>> import jax.numpy as jnp
    >>> [x.dtype.name for x in promote_dtype((jnp.ones(1, jnp.bfloat16), jnp.ones(1)))]
    ['float32', 'float32']
    """
    return tuple(dtypes.promote_dtype(*args, dtype=dtype, inexact=inexact))


def make_param(
    rngs: Rngs, init: Callable[..., Any], shape: tuple[int, ...], dtype: Any, metadata: Mapping[str, Any]
) -> Param[Any]:
    """Draw a parameter with the next key of the stream ``params``.

    Raises:
      RngsTypeError: ``rngs`` are no streams.
    """
    if not isinstance(rngs, Rngs) and not hasattr(rngs, "params"):
        raise RngsTypeError(rngs)
    return Param(init(rngs.params(), shape, dtype), **metadata)


def value_of(variable: Any) -> Any:
    """Give the value of a variable, or None for a parameter that the layer has not."""
    return None if variable is None else variable.get_value()


def set_options(**options: Any) -> dict[str, Any]:
    """Give the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def check_features(layer: Any, features: int, inputs: Any, what: str = "input", axis: int = -1) -> None:
    """Compare an axis of an input with what a layer was made for.

    Raises:
      LayerInputError: they differ; it says where the layer is.
    """
    shape = inputs.shape
    if not -len(shape) <= axis < len(shape) or shape[axis] != features:
        raise LayerInputError(type(layer).__name__, path_of(layer), features, shape, what=what, axis=axis)
