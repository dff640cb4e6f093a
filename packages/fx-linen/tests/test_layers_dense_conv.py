"""Linear and convolutional layers: parameters by name, options, and what wrong arguments say."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import (
    ArgumentError,
    DtypeError,
    ShapeMismatchError,
)

KEY = jax.random.key(0)


def shapes(variables):
    return jax.tree.map(jnp.shape, variables["params"])


def test_dense_computes_a_matrix_product():
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    y, variables = nn.Dense(4, bias_init=nn.initializers.normal(1.0)).init_with_output(KEY, x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    np.testing.assert_allclose(y, x @ np.asarray(kernel) + np.asarray(bias).reshape(1, 4), rtol=1e-5)


def test_dense_dtypes():
    layer = nn.Dense(4, dtype=jnp.bfloat16, param_dtype=jnp.float16)
    y, variables = layer.init_with_output(KEY, jnp.ones((2, 3)))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float16)}
    with pytest.raises(DtypeError, match="must be inexact"):
        nn.Dense(4, dtype=jnp.int32).init(KEY, jnp.ones((2, 3)))


def test_dense_uses_the_replacements():
    calls = []

    def double(lhs, rhs, dims, precision=None):
        calls.append(precision)
        return 2 * jax.lax.dot_general(lhs, rhs, dims)

    x = jnp.ones((2, 3))
    plain, variables = nn.Dense(4).init_with_output(KEY, x)
    for options in ({"dot_general": double}, {"dot_general_cls": lambda: double, "dot_general": None}):
        got = nn.Dense(4, precision="highest", **options).apply(variables, x)
        np.testing.assert_allclose(got, 2 * plain, rtol=1e-6)
    assert calls == ["highest", "highest"]


def test_dense_promotes_as_told():
    seen = []

    def keep(*arrays, dtype):
        seen.append((len(arrays), dtype))
        return arrays

    nn.Dense(4, promote_dtype=keep, dtype=jnp.bfloat16).init(KEY, jnp.ones((2, 3)))
    assert seen == [(3, jnp.bfloat16)]


def test_dense_under_transformations():
    layer, x = nn.Dense(2), jnp.ones((3, 4))
    variables = layer.init(KEY, x)
    loss = lambda v: layer.apply(v, x).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(variables)
    np.testing.assert_allclose(gradient["params"]["kernel"], np.full((4, 2), 3.0))
    np.testing.assert_allclose(
        jax.vmap(lambda row: layer.apply(variables, row))(x), layer.apply(variables, x), rtol=1e-6
    )


def test_dense_general_takes_any_axes():
    layer = nn.DenseGeneral((5, 6), axis=(-1, 1), batch_dims=(0,))
    y, variables = layer.init_with_output(KEY, jnp.ones((2, 3, 7, 4)))
    assert shapes(variables) == {"kernel": (2, 3, 4, 5, 6), "bias": (2, 5, 6)}
    assert y.shape == (2, 7, 5, 6)
    assert "bias" not in nn.DenseGeneral(5, use_bias=False).init(KEY, jnp.ones((2, 3)))["params"]


def test_einsum_takes_its_equation_once():
    layer = nn.Einsum((3, 4))
    assert layer.init_with_output(KEY, jnp.ones((2, 3)), "ab,bc->ca")[0].shape == (4, 2)
    with pytest.raises(ValueError, match="einsum_str"):
        layer.init(KEY, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="einsum_str"):
        nn.Einsum((3, 4), "ab,bc->ac").init(KEY, jnp.ones((2, 3)), "ab,bc->ca")
    with pytest.raises(ArgumentError, match="does not say what the result is"):
        nn.Einsum((3, 4), "ab,bc").init(KEY, jnp.ones((2, 3)))


def test_embed_shares_its_table():
    layer = nn.Embed(5, 3)
    variables = layer.init(KEY, jnp.array([0]))
    table = variables["params"]["embedding"]
    np.testing.assert_array_equal(layer.apply(variables, np.array([[4], [1]])), np.asarray(table)[[[4], [1]]])
    logits = layer.apply(variables, table, method="attend")
    np.testing.assert_allclose(logits, np.asarray(table) @ np.asarray(table).T, rtol=1e-5, atol=1e-6)
    with pytest.raises(DtypeError, match="looked up by integers"):
        layer.apply(variables, jnp.ones(2))


def test_embed_dtype():
    layer = nn.Embed(5, 3, dtype=jnp.bfloat16)
    assert layer.init_with_output(KEY, jnp.array([0]))[0].dtype == jnp.bfloat16


def test_conv_parameters():
    layer = nn.Conv(4, (3, 2), feature_group_count=2, use_bias=False)
    assert shapes(layer.init(KEY, jnp.ones((1, 5, 5, 6)))) == {"kernel": (3, 2, 3, 4)}
    assert shapes(nn.ConvTranspose(4, (3,), transpose_kernel=True).init(KEY, jnp.ones((5, 6)))) == {
        "kernel": (3, 4, 6),
        "bias": (4,),
    }
    local = nn.ConvLocal(4, (3,), strides=2).init(KEY, jnp.ones((2, 5, 6)))
    assert shapes(local) == {"kernel": (3, 18, 4), "bias": (3, 4)}


def test_causal_conv_sees_no_future():
    layer = nn.Conv(1, (3,), padding="CAUSAL")
    x = jnp.zeros((1, 6, 1))
    variables = layer.init(KEY, x)
    late = layer.apply(variables, x.at[0, 4].set(1.0))
    assert (np.asarray(late[0, :4]) == 0).all()
    assert (np.asarray(late[0, 4:]) != 0).all()


def test_circular_conv_rolls_with_its_input():
    layer = nn.Conv(2, (4,), padding="CIRCULAR")
    x = jax.random.normal(KEY, (1, 6, 2))
    variables = layer.init(KEY, x)
    rolled = layer.apply(variables, jnp.roll(x, 2, axis=1))
    np.testing.assert_allclose(rolled, jnp.roll(layer.apply(variables, x), 2, axis=1), rtol=1e-5, atol=1e-6)


def test_masked_weights_do_nothing():
    mask = jnp.zeros((3, 2, 4))
    for layer in (nn.Conv(4, (3,), mask=mask), nn.ConvTranspose(4, (3,), mask=mask)):
        assert not layer.init_with_output(KEY, jnp.ones((1, 5, 2)))[0].any()
    with pytest.raises(ShapeMismatchError, match="same shape as the kernel"):
        nn.Conv(4, (3,), mask=jnp.zeros((3, 4))).init(KEY, jnp.ones((1, 5, 2)))


def test_conv_uses_the_replacement():
    def fake(lhs, rhs, *args, **kwargs):
        return 0 * jax.lax.conv_general_dilated(lhs, rhs, *args, **kwargs)

    for options in ({"conv_general_dilated": fake}, {"conv_general_dilated_cls": lambda: fake}):
        assert not nn.Conv(4, (3,), **options).init_with_output(KEY, jnp.ones((1, 5, 2)))[0].any()


def test_wrong_convolutions():
    with pytest.raises(ArgumentError, match=r"2 spatial dimension\(s\)"):
        nn.Conv(4, (3, 3), padding="CAUSAL").init(KEY, jnp.ones((1, 5, 5, 2)))
    with pytest.raises(ArgumentError, match="do not divide the input features"):
        nn.Conv(4, (3,), feature_group_count=2).init(KEY, jnp.ones((1, 5, 3)))
    with pytest.raises(ArgumentError, match="no feature groups"):
        nn.ConvLocal(4, (3,), feature_group_count=2).init(KEY, jnp.ones((1, 5, 2)))
    with pytest.raises(ShapeMismatchError, match="too few dimensions"):
        nn.Conv(4, (3, 3)).init(KEY, jnp.ones((5, 5)))


def test_adapters_add_a_low_rank_change_to_a_layer():
    layer, x = nn.LoRA(2, nn.Dense(4)), jnp.linspace(-1, 1, 6).reshape(2, 3)
    params = layer.init(jax.random.key(0), x)["params"]
    base = {"params": params["base_module"]}
    np.testing.assert_array_equal(layer.apply({"params": params}, x), nn.Dense(4).apply(base, x))
    params["lora_b"] = jnp.ones((2, 4))
    want = nn.Dense(4).apply(base, x) + x @ params["lora_a"] @ params["lora_b"]
    np.testing.assert_allclose(layer.apply({"params": params}, x), want, rtol=1e-5)
    assert nn.LoRA(2, jnp.tanh, dtype=jnp.bfloat16).init_with_output(jax.random.key(0), x)[0].dtype == jnp.float32
    with pytest.raises(ShapeMismatchError, match=r"(?s)map the last axis.*\(2, 'out'\).*\(3,\)"):
        nn.LoRA(2, lambda x: x[0]).init(jax.random.key(0), x)
