"""Layers as functions of scopes: the same parameters and results as the modules."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.scope import apply, init
from fx_linen import functional

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
X = jnp.linspace(-1.0, 2.0, 48).reshape(2, 6, 4)

PAIRS = {
    "dense": (functional.dense, nn.Dense, {"features": 5}),
    "dense_bare": (functional.dense, nn.Dense, {"features": 5, "use_bias": False, "dtype": jnp.bfloat16}),
    "dense_general": (functional.dense_general, nn.DenseGeneral, {"features": (2, 3), "axis": (-2, -1)}),
    "conv": (functional.conv, nn.Conv, {"features": 6, "kernel_size": (3,), "strides": 2, "feature_group_count": 2}),
    "conv_transpose": (
        functional.conv_transpose,
        nn.ConvTranspose,
        {"features": 6, "kernel_size": (3,), "strides": (2,)},
    ),
    "layer_norm": (functional.layer_norm, nn.LayerNorm, {"epsilon": 1e-2}),
    "rms_norm": (functional.rms_norm, nn.RMSNorm, {}),
    "batch_norm": (functional.batch_norm, nn.BatchNorm, {"use_running_average": False, "momentum": 0.5}),
    "batch_norm_average": (functional.batch_norm, nn.BatchNorm, {"use_running_average": True}),
    "dropout": (functional.dropout, nn.Dropout, {"rate": 0.5, "deterministic": False}),
    "dropout_all": (functional.dropout, nn.Dropout, {"rate": 1.0, "deterministic": False}),
    "dropout_off": (functional.dropout, nn.Dropout, {"rate": 0.5, "deterministic": True}),
}


def same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-6, atol=1e-6), ours, theirs
    )


NAMES = {"use_bias": "bias", "use_scale": "scale"}


@pytest.mark.parametrize("case", PAIRS)
def test_like_the_module(case):
    fn, cls, options = PAIRS[case]
    named = {NAMES.get(name, name): value for name, value in options.items()}
    y, variables = init(lambda scope, x: fn(scope, x, **named))(KEYS, X)
    same((y, variables), cls(**options).init_with_output(KEYS, X))
    out = apply(lambda scope, x: fn(scope, x, **named), mutable=["batch_stats"])(variables, X, rngs=KEYS)
    same(out, cls(**options).apply(variables, X, rngs=KEYS, mutable=["batch_stats"]))


def test_group_norm():
    """The parameters have all axes, as in flax.core.nn."""
    y, variables = init(lambda scope, x: functional.group_norm(scope, x, 2))(KEYS, X)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"scale": (1, 1, 4), "bias": (1, 1, 4)}}
    same(y, nn.GroupNorm(2).init_with_output(KEYS, X)[0])


def test_embedding():
    tokens = jnp.array([[0, 3], [2, 1]])

    def both(scope, tokens):
        table = functional.embedding(scope, 4, 5)
        return table.lookup(tokens), table.attend(jnp.ones(5))

    (rows, logits), variables = init(both)(KEYS, tokens)
    table = variables["params"]["table"]
    same((rows, logits), (table[tokens], table.sum(1)))


def test_dropout_with_a_key():
    key = jax.random.key(3)
    y, _ = init(lambda scope, x: functional.dropout(scope, x, 0.5, False, key))({}, X)
    same(y, nn.Dropout(0.5).apply({}, X, deterministic=False, rng=key))


def test_batch_norm_in_a_collection_of_its_own():
    def fn(scope, x):
        return functional.batch_norm(scope, x, bias=False, scale_init=nn.initializers.zeros, kind="averages")

    y, variables = init(fn)(KEYS, X)
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {"scale": (4,)},
        "averages": {"mean": (4,), "var": (4,)},
    }
    assert not y.any()


def test_embed():
    tokens = jnp.array([[0, 3], [2, 1]])
    result = init(lambda scope, x: functional.embed(scope, x, 4, 5))(KEYS, tokens)
    same(result, nn.Embed(4, 5).init_with_output(KEYS, tokens))


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked):
    mask = nn.make_causal_mask(X[..., 0]) if masked else None
    result = init(lambda scope, x: functional.attention(scope, x, x, 2, mask))(KEYS, X)
    same(result, nn.MultiHeadDotProductAttention(2).init_with_output(KEYS, X, X, mask=mask))
