"""Layers as plain functions of a scope, for those who like scopes without modules.

The arithmetic, the parameters and their names are those of the modules; the arguments have the names and the order of
``flax.core.nn``. Each call makes its variables in the scope that
it gets: give every layer a scope of its own with `fx_core.Scope.child`.

>>> import jax, jax.numpy as jnp
>>> from fx_core import init
>>> from fx_linen import functional as F
>>> def mlp(scope, x):
...     x = jax.nn.relu(scope.child(F.dense, "hidden")(x, 8))
...     return scope.child(F.dense, "out")(x, 2)
>>> y, variables = init(mlp)(jax.random.key(0), jnp.ones((1, 3)))
>>> jax.tree.map(jnp.shape, variables)
{'params': {'hidden': {'bias': (8,), 'kernel': (3, 8)}, 'out': {'bias': (2,), 'kernel': (8, 2)}}}
"""

from fx_linen import initializers
from fx_linen.activation import (
    celu,
    elu,
    gelu,
    glu,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    relu,
    sigmoid,
    silu,
    soft_sign,
    softmax,
    softplus,
    swish,
    tanh,
)
from fx_linen.functional._attention import attention
from fx_linen.functional._conv import conv, conv_transpose
from fx_linen.functional._dropout import dropout
from fx_linen.functional._embed import Embedding, embed, embedding
from fx_linen.functional._linear import dense, dense_general
from fx_linen.functional._norm import batch_norm, group_norm, layer_norm, rms_norm
from fx_linen.pooling import avg_pool, max_pool

__all__ = [
    "Embedding",
    "attention",
    "avg_pool",
    "batch_norm",
    "celu",
    "conv",
    "conv_transpose",
    "dense",
    "dense_general",
    "dropout",
    "elu",
    "embed",
    "embedding",
    "gelu",
    "glu",
    "group_norm",
    "initializers",
    "layer_norm",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "max_pool",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "swish",
    "tanh",
]
