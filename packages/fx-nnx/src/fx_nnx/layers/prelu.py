"""A rectifier with a learned slope."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops.activations import prelu
from fx_core.typing import Dtype

from fx_nnx.layers.params import as_array, located, promote_dtype, value_of
from fx_nnx.modules.module import Module
from fx_nnx.variables.kinds import Param

__all__ = ["PReLU"]


class PReLU(Module):
    """Gives ``x`` where it is positive, a learned multiple of it elsewhere.

    He et al., *Delving Deep into Rectifiers*, 2015.

    >>> import jax.numpy as jnp
    >>> PReLU(0.5)(jnp.array([-2.0, 2.0]))
    Array([-1.,  2.], dtype=float32)

    Args:
      negative_slope_init: the first slope.
      dtype: what to compute in; by default the dtype of the input, or that of the slope where the input is integers.
      param_dtype: dtype of the slope.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      negative_slope_metadata: metadata of the variable ``negative_slope``.
    """

    def __init__(
        self,
        negative_slope_init: float = 0.01,
        *,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        promote_dtype: Callable[..., Any] = promote_dtype,
        negative_slope_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        self.negative_slope = Param(jnp.asarray(negative_slope_init, param_dtype), **negative_slope_metadata)
        self.dtype, self.param_dtype, self.promote_dtype = dtype, param_dtype, promote_dtype

    @located
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Applies the layer to an array of any shape."""
        x = as_array(self, inputs)
        dtype = x.dtype if self.dtype is None and jnp.issubdtype(x.dtype, jnp.inexact) else self.dtype
        x, slope = self.promote_dtype((x, value_of(self.negative_slope)), dtype=dtype)
        return prelu(x, slope)
