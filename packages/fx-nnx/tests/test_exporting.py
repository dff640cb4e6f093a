"""NNX modules as functions of their variables, for exporters."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import optax
import pytest
from fx_core.errors import ArgumentTypeError
from fx_core.plugins import registry
from fx_nnx.exporting import as_function, of_train_state

X = jnp.ones((2, 3))


class Noise(nnx.Module):
    def __init__(self, rngs):
        self.rngs = rngs

    def __call__(self, x, scale=1.0):
        return x + scale * jax.random.normal(self.rngs.noise(), x.shape)

    def unused(self, x):
        self.rngs.noise()
        return x


@pytest.mark.parametrize(
    ("model", "stream"),
    [
        (nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1))), "layers/1/rngs"),
        (Noise(nnx.Rngs(0)), "rngs/default"),
    ],
)
def test_what_is_drawn_is_no_function_of_the_inputs(model, stream):
    fn, variables = as_function(model, None)
    with pytest.raises(ArgumentTypeError, match="returns random values from RNG streams") as caught:
        jax.eval_shape(fn, variables, X)
    assert caught.value.got == stream


def test_what_becomes_of_the_model_later_is_nothing_to_what_was_exported(caplog):
    model = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1), deterministic=True))
    fn, variables = as_function(model, None)
    exported = jax.jit(lambda x: fn(variables, x))  # weights inside, as exporters do
    before = exported(X)
    model.layers[0].kernel.set_value(model.layers[0].kernel + 1)
    assert (exported(X) == before).all()
    assert caplog.text == ""


def test_drawing_without_returning_is_allowed():
    fn, variables = as_function(Noise(nnx.Rngs(0)), None, method="unused")
    assert (fn(variables, X) == X).all()
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
    dropout.eval()
    fn, variables = as_function(dropout, None)
    assert (fn(variables, X) == X).all()


def test_a_first_carry_of_zeros_takes_a_key():
    layer = nnx.RNN(nnx.LSTMCell(3, 4, keep_rngs=True, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    fn, variables = as_function(layer, None)
    assert jax.eval_shape(fn, variables, jnp.ones((2, 5, 3))).shape == (2, 5, 4)


class Changing(nnx.Module):
    def __init__(self):
        self.linear, self.calls, self.gain = nnx.Linear(3, 3, rngs=nnx.Rngs(0)), 0, 1.0

    def louder(self, x):
        self.gain *= 2
        return self.gain * x

    def by_the_first(self, x):
        if not hasattr(self, "first"):
            self.first = nnx.Variable(x[:1])
        return x - self.first[...]

    def counted(self, x):
        self.calls += 1
        return jax.nn.relu(self.linear(x))

    def masked(self, x):
        y = self.linear(x)
        if not hasattr(self, "mask"):
            self.mask = nnx.Variable(jnp.tril(jnp.ones((3, 3))))
        return y @ self.mask[...]

    def sown(self, x):
        self.sow(nnx.Intermediate, "x", x)
        return x


@pytest.mark.parametrize("method", ["louder", "by_the_first"])
def test_a_second_call_that_computes_something_else_is_refused(method):
    fn, variables = as_function(Changing(), None, method=method)
    with pytest.raises(ArgumentTypeError, match="changes attributes of the model, after which it computes"):
        jax.eval_shape(fn, variables, X)


@pytest.mark.parametrize("method", ["counted", "masked", "sown"])
def test_attributes_that_do_not_matter_may_change(method):
    fn, variables = as_function(Changing(), None, method=method)
    assert jnp.array_equal(jax.jit(fn)(variables, X), getattr(Changing(), method)(X))


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(3, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.linear(x))


class Kept(nnx.TrainState):
    others: nnx.State
    ema: nnx.State


def trained():
    model = Normed(nnx.Rngs(0))
    model.norm.mean[...] = jnp.ones(2)
    model.eval()
    return model


def test_a_training_state_is_its_model_with_its_parameters():
    model = trained()
    graphdef, params, others = nnx.split(model, nnx.Param, ...)
    averages = jax.tree.map(jnp.zeros_like, params)
    state = Kept.create(graphdef, params=params, tx=optax.adam(0.1), others=others, ema=averages)
    fn, variables = of_train_state(state, None)
    assert (fn(variables, X) == model(X)).all()
    assert jax.tree.structure(variables) == jax.tree.structure(nnx.to_pure_dict(nnx.state(model)))
    entry = registry().models["nnx_train_state"]
    assert entry.load() is of_train_state
    assert entry.type == f"{nnx.TrainState.__module__}:{nnx.TrainState.__qualname__}"


def test_a_training_state_that_lacks_variables_is_refused():
    graphdef, params, _ = nnx.split(trained(), nnx.Param, ...)
    with pytest.raises(nnx.errors.NnxError, match="norm"):
        of_train_state(nnx.TrainState.create(graphdef, params=params, tx=optax.sgd(0.1)), None)


def test_of_a_model_with_its_optimizer_the_model_is_exported():
    model = trained()
    fn, variables = as_function(nnx.ModelAndOptimizer(model, optax.adam(0.1)), None)
    assert (fn(variables, X) == model(X)).all()
    assert sorted(variables) == ["linear", "norm"]


def test_what_has_no_such_method_is_refused():
    model = trained()
    with pytest.raises(ArgumentTypeError, match="This module has no method '__call__'") as caught:
        as_function(nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param), None)
    assert caught.value.got == "Optimizer"
    with pytest.raises(ArgumentTypeError, match="This module has no method 'encode'"):
        as_function(model, None, method="encode")
