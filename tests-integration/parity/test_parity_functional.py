"""Layers as functions of scopes against flax.core.nn: same arguments, same parameters, same results."""

import inspect

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import nn as peer
from fx_core import scope
from fx_linen import functional

X = jnp.linspace(-1.0, 2.0, 96).reshape(2, 6, 8)
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}

CALLS = {
    "dense": lambda nn, s: nn.dense(s, X, 3, False),
    "dense_general": lambda nn, s: nn.dense_general(s, X, (2, 3), (-2, -1), (), True),
    "conv": lambda nn, s: nn.conv(s, X, 4, (3,), (2,), "SAME", None, (2,), 2, True),
    "conv_transpose": lambda nn, s: nn.conv_transpose(s, X, 4, (3,), (2,), bias_init=nn.initializers.ones),
    "layer_norm": lambda nn, s: nn.layer_norm(s, X, 1e-3, jnp.float32, True, False),
    "group_norm": lambda nn, s: nn.group_norm(s, X, 4, scale_init=nn.initializers.normal()),
    "batch_norm": lambda nn, s: nn.batch_norm(s, X, False, -1, 0.5, scale=False, kind="averages"),
    "dropout": lambda nn, s: nn.dropout(s, X, 0.5, False, jax.random.key(7)),
    "dropout_of_scope": lambda nn, s: nn.dropout(s, X, rate=0.5),
    "embedding": lambda nn, s: nn.embedding(s, 5, 8).attend(X),
    "lookup": lambda nn, s: nn.embedding(s, 5, 8).lookup(jnp.array([4, 0])),
    "pool": lambda nn, s: nn.max_pool(nn.silu(X), (2,), (2,)),
}


@pytest.mark.parametrize("call", CALLS)
def test_same(call):
    ours = scope.init(lambda s: CALLS[call](functional, s))(KEYS)
    with jax.numpy_rank_promotion("allow"):  # the peer's
        theirs = flax.core.init(lambda s: CALLS[call](peer, s))(KEYS)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, theirs
    )  # variances of theirs


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "dense_general",
        "conv",
        "conv_transpose",
        "embedding",
        "layer_norm",
        "group_norm",
        "batch_norm",
        "dropout",
    ],
)
def test_same_order_of_arguments(name):
    ours = [
        p.name for p in inspect.signature(getattr(functional, name)).parameters.values() if p.kind != p.KEYWORD_ONLY
    ]
    assert ours == [*inspect.signature(getattr(peer, name)).parameters]
