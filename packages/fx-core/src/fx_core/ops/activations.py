"""Nonlinear functions: those of `jax.nn`, with one behavior in all supported versions of JAX, and a few more."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import (
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
from jax.typing import ArrayLike

from fx_core.typing import Dtype

__all__ = [
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
    "prelu",
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

normalize = standardize


def one_hot(
    x: ArrayLike, num_classes: int, *, dtype: Dtype | None = None, axis: int | str = -1, out_sharding: Any = None
) -> jax.Array:
    """Converts class indices into vectors with a one at the index; an index outside the classes gives zeros.

    Args:
      x: integers of any shape.
      num_classes: length of the new axis.
      dtype: of the result; the default float type if None.
      axis: where the new axis goes.
      out_sharding: sharding of the result.

    Returns:
      An array with one dimension more than ``x``.

    >>> import jax.numpy as jnp
    >>> one_hot(jnp.array([1, 3]), 3)
    Array([[0., 1., 0.], [0., 0., 0.]], dtype=float32)
    """
    result = jax.nn.one_hot(x, num_classes, dtype=dtype, axis=axis)
    return result if out_sharding is None else jax.sharding.reshard(result, out_sharding)


def prelu(x: jax.Array, negative_slope: jax.Array) -> jax.Array:
    """Returns ``x`` where it is positive, ``negative_slope * x`` elsewhere.

    He et al., *Delving Deep into Rectifiers*, 2015.

    Args:
      x: any shape.
      negative_slope: a scalar, usually learned. It is cast to the dtype of ``x``.

    Returns:
      An array like ``x``.

    >>> import jax.numpy as jnp
    >>> prelu(jnp.array([-2.0, 3.0]), jnp.array(0.5))
    Array([-1.,  3.], dtype=float32)
    """
    return jnp.where(x >= 0, x, jnp.asarray(negative_slope, x.dtype) * x)
