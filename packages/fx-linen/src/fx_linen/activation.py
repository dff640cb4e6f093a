"""Nonlinear functions, and the one with a parameter."""

import jax
import jax.numpy as jnp
from fx_core.ops.activations import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_silu,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    logsumexp,
    mish,
    normalize,
    one_hot,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    sparse_plus,
    sparse_sigmoid,
    squareplus,
    standardize,
    swish,
    tanh,
)
from fx_core.typing import Dtype

from fx_linen.module import Module, compact

__all__ = [
    "PReLU",
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "mish",
    "normalize",
    "one_hot",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "standardize",
    "swish",
    "tanh",
]


class PReLU(Module):
    """Rectifier whose slope for negative inputs is learned: `fx_core.ops.activations.prelu`.

    He et al., *Delving Deep into Rectifiers*, 2015.

    Attributes:
      param_dtype: dtype of the slope.
      negative_slope_init: first value of the slope, which is the parameter ``negative_slope``, a scalar.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> nn.PReLU().init_with_output(jax.random.key(0), jnp.array([-1.0, 1.0]))[0]
    Array([-0.01,  1.  ], dtype=float32)
    """

    param_dtype: Dtype = jnp.float32
    negative_slope_init: float = 0.01

    @compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Applies the rectifier.

        Args:
          inputs: any shape.

        Returns:
          An array like the inputs.
        """
        slope = self.param("negative_slope", lambda key: jnp.asarray(self.negative_slope_init, self.param_dtype))
        return prelu(inputs, slope)
