"""Optimizers that want to know more than gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from fx_train import TrainState
from fx_train.errors import StateMismatchError
from fx_train.step import StepState, make_train_step, trainable_only

X = jax.random.normal(jax.random.key(0), (16, 3))
Y = X @ jnp.array([1.0, -2.0, 3.0])
PARAMS = {"w": jnp.zeros(3), "b": jnp.full((), 0.5)}


def loss_fn(params, batch):
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def trained(tx, steps=8, loss_fn=loss_fn, variables=None, **options):
    state = StepState.create(params=PARAMS, tx=tx, key=jax.random.key(1), variables=variables)
    train_step = make_train_step(loss_fn, donate=False, **options)
    for _ in range(steps):
        state, metrics = train_step(state, (X, Y))
    return state, float(metrics["loss"])


def search():
    return optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10))


def test_lbfgs_searches_along_the_loss_of_the_batch():
    state, loss = trained(optax.lbfgs(), clip=100.0)
    assert loss < 1e-6
    np.testing.assert_allclose(state.params["w"], [1, -2, 3], atol=1e-3)


def test_a_search_in_parts_with_keys_and_variables_takes_the_same_way():
    def noisy(params, batch, key, variables):
        assert key is not None
        return loss_fn(params, batch), {}, {"count": variables["count"] + 1}

    state, loss = trained(search(), 3, noisy, {"count": jnp.int32(0)}, accumulate=4, weight="examples")
    whole, expected = trained(search(), 3)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(state.params["w"], whole.params["w"], rtol=1e-5)
    assert int(state.variables["count"]) == 12  # what the search computes changes nothing


@pytest.mark.parametrize("masked", [False, True])
def test_a_search_leaves_frozen_parameters_out(masked):
    trainable = {"w": True, "b": False}
    state, loss = trained(trainable_only(search(), trainable) if masked else search(), 20, trainable=trainable)
    assert float(state.params["b"]) == 0.5
    best = np.linalg.lstsq(np.asarray(X), np.asarray(Y) - 0.5)[0]
    np.testing.assert_allclose(state.params["w"], best, atol=1e-2)
    np.testing.assert_allclose(loss, np.mean((X @ best + 0.5 - Y) ** 2), rtol=1e-2)


def test_sam_is_told_gradients_elsewhere_and_nothing_that_it_does_not_know():
    one = optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), opaque_mode=True)
    assert trained(one, 20)[1] < 0.1


def test_an_update_without_further_parameters_gets_none():
    tx = optax.GradientTransformation(lambda params: (), lambda grads, state, params: (grads, state))
    assert trained(tx, 1)[1] > 0


def test_whoever_wants_more_is_told_how():
    text = r"expected: a call of its update with '.*'grad',? and 'value_fn'(.|\n)*Use fx_train.step.make_train_step"
    with pytest.raises(StateMismatchError, match=text):
        TrainState.create(apply_fn=None, params=PARAMS, tx=optax.lbfgs()).apply_gradients(grads=PARAMS)

    def update(updates, state, params=None, *, weather):
        raise AssertionError(weather)

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    with pytest.raises(StateMismatchError, match="with 'weather'"):
        trained(tx)

    def broken(updates, state, params=None):
        raise TypeError("of another kind")

    with pytest.raises(TypeError, match="of another kind"):
        trained(optax.GradientTransformation(lambda params: (), broken))
