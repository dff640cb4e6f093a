"""Functions that draw the first values of parameters.

An initializer is called as ``init(key, shape, dtype)``. Those of `jax.nn.initializers` are here under their names, with
the same numbers and less to compile, next to the ones that layers use by default and a wrapper that draws a tensor as
if it were a matrix.
"""

from fx_core.ops.initializers.fixed import constant, ones, ones_init, zeros, zeros_init
from fx_core.ops.initializers.layers import (
    default_bias_init,
    default_embed_init,
    default_kernel_init,
    default_recurrent_init,
    default_scale_init,
    flattened,
)
from fx_core.ops.initializers.random import (
    delta_orthogonal,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    kaiming_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    orthogonal,
    truncated_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_uniform,
)
from fx_core.ops.params import Initializer

__all__ = [
    "Initializer",
    "constant",
    "default_bias_init",
    "default_embed_init",
    "default_kernel_init",
    "default_recurrent_init",
    "default_scale_init",
    "delta_orthogonal",
    "flattened",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "ones_init",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_init",
]
