"""Dropout, activations and initializers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentError
from fx_core.ops import activations, dropout, initializers


def test_dropout_zeroes_the_rate_and_keeps_the_mean():
    x = jnp.ones(10_000)
    y = dropout.dropout(x, 0.25, jax.random.key(0))
    assert abs(float((y == 0).mean()) - 0.25) < 0.02
    np.testing.assert_allclose(y[y != 0], 1 / 0.75, rtol=1e-6)


def test_dropout_shares_draws_along_broadcast_dims():
    y = np.asarray(dropout.dropout(jnp.ones((50, 4, 3)), 0.5, jax.random.key(1), (0, -1)))
    assert (y == y[:1, :, :1]).all()
    assert set(np.unique(y)) <= {0.0, 2.0}


def test_dropout_at_the_ends():
    x = jnp.arange(3.0)
    assert dropout.dropout(x, 0.0, jax.random.key(0)) is x
    assert dropout.dropout(x, 1.0, jax.random.key(0)).tolist() == [0, 0, 0]
    gradient = jax.grad(lambda v: dropout.dropout(v, 1.0, jax.random.key(0)).sum())(x)
    assert gradient.tolist() == [0, 0, 0]


@pytest.mark.parametrize("rate", [-0.1, 1.5, 50, float("nan")])
def test_dropout_rate_is_a_probability(rate):
    with pytest.raises(ArgumentError, match=r"(?s)probability to drop.*between 0 and 1"):
        dropout.dropout(jnp.ones(2), rate, jax.random.key(0))


def test_normalize_is_standardize():
    x = jnp.array([[1.0, 3.0]])
    np.testing.assert_allclose(activations.normalize(x, epsilon=0.0), [[-1, 1]])
    np.testing.assert_allclose(activations.standardize(x, mean=1.0, variance=4.0, epsilon=0.0), [[0, 1]])


def test_one_hot():
    assert activations.one_hot(jnp.array([2, -1]), 3).tolist() == [[0, 0, 1], [0, 0, 0]]
    assert activations.one_hot(jnp.array([2, 0]), 3, axis=0, dtype=jnp.int8).shape == (3, 2)


def test_one_hot_with_a_sharding():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        y = activations.one_hot(jnp.array([1]), 2, out_sharding=jax.P("x", None))
    assert y.sharding.spec == jax.P("x", None)


def test_prelu_follows_the_input_dtype():
    y = activations.prelu(jnp.array([-2.0, 2.0], jnp.bfloat16), jnp.array(0.25))
    assert (y.dtype, y.tolist()) == (jnp.bfloat16, [-0.5, 2.0])


@pytest.mark.parametrize("name", activations.__all__)
def test_every_activation_runs(name):
    if name in ("one_hot", "prelu"):
        arguments = (jnp.array([0, 1]), 2) if name == "one_hot" else (jnp.ones(2), jnp.array(0.1))
    else:
        arguments = (jnp.linspace(-2.0, 2.0, 4),)
    assert np.isfinite(np.asarray(getattr(activations, name)(*arguments))).all()


@pytest.mark.parametrize("name", sorted(set(initializers.__all__) - {"Initializer", "flattened"}))
def test_every_initializer_draws(name):
    function = getattr(initializers, name)
    ready = name.startswith("default") or name in ("ones", "zeros")
    arguments = {"constant": (2.0,), "variance_scaling": (1.0, "fan_in", "normal")}.get(name, ())
    init = function if ready else function(*arguments)
    shape = (3, 4, 4) if name == "delta_orthogonal" else (4, 6)
    value = init(jax.random.key(0), shape, jnp.float32)
    assert (value.shape, value.dtype) == (shape, jnp.float32)


def test_flattened_keeps_boxes():
    def boxed(key, shape, dtype):
        assert shape == (1, 6)
        return {"box": jnp.zeros(shape, dtype)}

    value = initializers.flattened(boxed, (0, 2))(jax.random.key(0), (2, 3), jnp.float32)
    assert value["box"].shape == (2, 3)


def test_flattened_is_the_matrix_initializer():
    init = initializers.flattened(initializers.lecun_normal(), (2, 1))
    got = init(jax.random.key(3), (2, 3, 4), jnp.float32)
    np.testing.assert_array_equal(
        got, initializers.lecun_normal()(jax.random.key(3), (6, 4), jnp.float32).reshape(2, 3, 4)
    )
