import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_nnx.errors import NnxError

X = jnp.sin(jnp.arange(8 * 2.0)).reshape(8, 2)
Y = X.sum(1, keepdims=True)


def net():
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(2, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs))


def loss_fn(model, x, y):
    return ((model(x) - y) ** 2).mean()


def test_average_of_some_variables():
    model = net()
    ema = nnx.EMA(model, 0.9, only=nnx.Param)
    start = model.layers[0].kernel[...]
    model.layers[0].kernel[...] = jnp.zeros((2, 4))
    ema.update(model)
    ema.update(nnx.state(model, nnx.Param))
    made = ema.apply_to(model)
    np.testing.assert_allclose(made.layers[0].kernel[...], 0.81 * start, rtol=1e-6)
    assert (model.layers[0].kernel[...] == 0).all()
    assert made.layers[0].kernel is not model.layers[0].kernel
    assert made.layers[1].mean is model.layers[1].mean


def test_a_model_of_averages_follows_later_updates():
    model = net()
    ema = nnx.EMA(model, 0.5, only=nnx.Param)
    made, start = ema.apply_to(model), model.layers[0].kernel[...]
    model.layers[0].kernel[...] = jnp.zeros((2, 4))
    nnx.jit(lambda ema, model: ema.update(model))(ema, model)
    np.testing.assert_allclose(made.layers[0].kernel[...], 0.5 * start, rtol=1e-6)
    assert made.layers[0].kernel is ema.params["layers"][0]["kernel"]


def test_averages_of_narrow_numbers_are_kept_in_float32():
    model = nnx.Linear(3, 1, use_bias=False, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    ema, rounded = nnx.EMA(model, 0.999), nnx.EMA(model, 0.999, dtype=jnp.bfloat16)
    start = model.kernel[...].astype(jnp.float32)
    model.kernel[...] = jnp.full((3, 1), 5.0, jnp.bfloat16)
    for _ in range(300):
        ema.update(model)
        rounded.update(model)
    expected = start * 0.999**300 + 5 * (1 - 0.999**300)
    assert ema.params["kernel"][...].dtype == jnp.float32
    np.testing.assert_allclose(ema.params["kernel"][...], expected, rtol=1e-4)
    assert ema.apply_to(model).kernel is ema.params["kernel"]
    assert model.kernel[...].dtype == jnp.bfloat16
    assert rounded.params["kernel"][...].dtype == jnp.bfloat16


def test_keys_and_counts_are_taken_over():
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    ema = nnx.EMA(dropout, 0.9)
    dropout(X)
    ema.update(dropout)
    assert int(ema.apply_to(dropout).rngs.count[...]) == 1


def test_averages_that_do_not_fit():
    ema = nnx.EMA(net(), 0.9)
    with pytest.raises(NnxError, match=r"not those that are averaged[\s\S]*only one side has /"):
        ema.update(nnx.state(net(), nnx.Param))
    with pytest.raises(NnxError, match=r"Only variables can be averaged[\s\S]*got: ArrayImpl"):
        nnx.EMA({"a": X}, 0.9)


def test_train_step_with_optimizer_and_average():
    model = net()
    optimizer, ema = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param), nnx.EMA(model, 0.5, only=nnx.Param)

    @nnx.jit
    def step(model, optimizer, ema):
        loss, grads = nnx.value_and_grad(loss_fn)(model, X, Y)
        optimizer.update(model, grads)
        ema.update(model)
        return loss

    losses = [step(model, optimizer, ema) for _ in range(5)]
    assert losses[-1] < losses[0]
    assert int(optimizer.step[...]) == 5


def test_model_and_optimizer_in_one():
    both = nnx.ModelAndOptimizer(net(), optax.sgd(0.1))

    @nnx.jit
    def step(both):
        loss, grads = nnx.value_and_grad(loss_fn)(both.model, X, Y)
        both.update(grads)
        return loss

    assert step(both) > step(both)


def test_functional_train_state():
    graphdef, params, rest = nnx.split(net(), nnx.Param, ...)

    class State(nnx.TrainState):
        rest: nnx.State

    state = State.create(graphdef, params=params, tx=optax.sgd(0.1), rest=rest)

    @jax.jit
    def step(state):
        def loss(params):
            y, (_, new) = state.apply(params, jax.tree.map(jnp.copy, state.rest))(X)
            return ((y - Y) ** 2).mean(), new

        (value, new), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads, rest=nnx.filter_state(new, nnx.Not(nnx.Param))), value

    values = []
    for _ in range(3):
        state, value = step(state)
        values.append(value)
    assert values[2] < values[0]
    assert int(state.step) == 3
    y, _ = state.apply("params", "rest")(X)
    assert y.shape == Y.shape


def test_annotations_say_of_which_model():
    state = nnx.TrainState[nnx.Linear]
    for cls in (nnx.Optimizer[nnx.Linear], nnx.ModelAndOptimizer[nnx.Linear], nnx.LoRAParam[jax.Array]):
        assert cls.__args__ in ((nnx.Linear,), (jax.Array,))
    graphdef, params = nnx.split(nnx.Linear(1, 1, rngs=nnx.Rngs(0)), nnx.Param)
    made = state.create(graphdef, params=params, tx=optax.sgd(0.1))
    assert jax.tree.structure(made) == jax.tree.structure(nnx.TrainState.create(graphdef, params=params, tx=made.tx))
    optimizer = nnx.Optimizer[nnx.Linear](nnx.Linear(1, 1, rngs=nnx.Rngs(0)), optax.sgd(0.1), wrt=nnx.Param)
    assert "__orig_class__" not in repr(optimizer)
