"""What is around layers that share a trace of remat: Python variables, settings, interceptors, other transforms."""

import gc
import weakref

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import config, errors

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


def scaled(x):
    return x * SCALE


SCALE = 1.0


@pytest.mark.parametrize("form", ["cell of a function", "cell of a method", "global", "cell of a helper"])
def test_python_variables_around_a_layer_are_looked_at(same, form, monkeypatch):
    def make(transform):
        scale = 1.0

        def helper(x):
            return x * scale

        def function(module, x):
            return nn.Dense(4)(x) * scale

        class Method(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = nn.Dense(4)(x)
                return x * scale if form == "cell of a method" else scaled(x) if form == "global" else helper(x)

        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                return transform(function)(self, x)

        lifted = transform(Method)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                nonlocal scale
                for number in range(3):
                    scale = float(number + 1)
                    monkeypatch.setitem(globals(), "SCALE", scale)
                    if form == "cell of a function":
                        x = Layer(name=f"layer_{number}")(x)
                    else:
                        x = lifted(name=f"layer_{number}")(x)
                return x

        return Net()

    same(make)


def test_a_function_that_names_by_a_variable_around_it(same):
    def make(transform):
        number = 0

        def function(module, x):
            return nn.Dense(4, name=f"layer_{number}")(x)

        lifted = transform(function)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                nonlocal number
                for value in range(3):
                    number = value
                    x = lifted(self, x)
                return x

        return Net()

    same(make)


def test_functions_of_one_module_go_on_counting():
    lifted = nn.remat(lambda module, x: nn.Dense(4)(x))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(lifted(self, nn.Dense(4)(lifted(self, x))))

    variables = Net().init(KEYS, X)
    assert sorted(variables["params"]) == ["Dense_0", "Dense_1", "Dense_2", "Dense_3"]
    expected = X
    for number in (2, 1, 3, 0):  # a layer has its number before its argument is computed
        layer = variables["params"][f"Dense_{number}"]
        expected = expected @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(Net().apply(variables, X), expected, rtol=1e-5)


def test_settings_have_traces_of_their_own(same, counted):
    layer, traces = counted(lambda module, x: x + 0.01 * len(nn.get_logical_axis_rules()) + config.fix_rng_separator)

    def make(transform):
        cls = transform(layer)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = cls(name="a")(x)
                with nn.logical_axis_rules([["batch", None]]):
                    x = cls(name="b")(x)
                with config.override(fix_rng_separator=True):
                    x = cls(name="c")(x)
                return cls(name="d")(x)

        return Net()

    same(make)
    assert len(traces) == 3 + 4


def test_what_post_init_made_is_looked_at(same, stack):
    class Layer(nn.Module):
        def __post_init__(self):
            if not hasattr(self, "number"):
                object.__setattr__(self, "number", float(self.name[-1]))
            super().__post_init__()

        @nn.compact
        def __call__(self, x):
            return nn.Dense(4)(x) * self.number

    def make(transform):
        cls = transform(Layer)
        return stack(cls)

    same(make)


def test_interceptors_and_captures_see_every_layer(counted, stack):
    layer, _ = counted()
    cls = nn.remat(layer)
    model = stack(cls)
    variables = model.init(KEYS, X)
    paths = []

    def note(next_fun, args, kwargs, context):
        paths.append(context.module.path)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(note):
        model.apply(variables, X)
    assert ("layer_2", "Dense_0") in paths
    _, state = model.apply(variables, X, capture_intermediates=True)
    assert sorted(state["intermediates"]) == ["__call__", "layer_0", "layer_1", "layer_2"]


@pytest.mark.parametrize("form", ["remat", "scan", "vmap", "jit", "remat over scan", "jax.checkpoint"])
def test_inside_of_other_transforms(same, counted, stack, form):
    layer, traces = counted(lambda module, x: nn.Dropout(0.5, deterministic=False)(x))

    def make(transform):
        cls = transform(layer)

        class Body(nn.Module):
            @nn.compact
            def __call__(self, x):
                for number in range(2):
                    x = cls(name=f"layer_{number}")(x)
                return x

        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return Body(name="body")(x), None

        options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True, "dropout": True}}

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                if form == "remat":
                    return stack(transform(Body))(x)
                if form in ("scan", "remat over scan"):
                    step = nn.scan(transform(Step) if form == "remat over scan" else Step, length=2, **options)
                    return step(name="steps")(x, None)[0]
                if form == "vmap":
                    return nn.vmap(Body, **options)(name="bodies")(x)
                if form == "jit":
                    return nn.jit(Body)(name="body")(x)
                return Body(name="body")(x)

        return Net()

    same(make)
    assert traces


def test_layers_with_transforms_inside(same, stack):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            each = nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs={"params": True})
            x = nn.Dropout(0.5, deterministic=False)(each(4)(x))
            return nn.remat(nn.Dense)(4, name="inner")(x)

    def make(transform):
        cls = transform(Layer)
        return stack(cls)

    same(make)


def test_methods_and_modules_as_arguments(same):
    traces = []

    class Layer(nn.Module):
        table: nn.Module

        def setup(self):
            self.dense = nn.Dense(4)

        def encode(self, x, head):
            if not self.is_initializing():
                traces.append(1)
            return self.table(self.dense(x)) + head(x)

        def __call__(self, x, head):
            return self.encode(x, head)

    def make(transform):
        cls = transform(Layer) if transform is not nn.remat else nn.remat(Layer, methods=["encode"])

        class Net(nn.Module):
            def setup(self):
                self.table, self.head = nn.Dense(4), nn.Dense(4)
                self.layers = [cls(self.table, name=f"layer_{number}") for number in range(3)]

            def __call__(self, x):
                for layer in self.layers:
                    x = layer(x, self.head)
                return x

        return Net()

    same(make)
    assert len(traces) == 1 + 3


def test_effects_happen_for_each_layer(counted, stack):
    seen = []
    layer, _ = counted(lambda module, x: jax.debug.callback(lambda value: seen.append(float(value)), x[0, 0]) or x)
    cls = nn.remat(layer)
    model = stack(cls)
    variables = model.init(KEYS, X)
    jax.block_until_ready(jax.jit(model.apply)(variables, X))
    jax.effects_barrier()
    assert len(set(seen)) == 3


def test_traces_are_forgotten_with_the_run(counted, stack):
    layer, _ = counted()
    cls = nn.remat(layer)
    model = stack(cls)
    variables = model.init(KEYS, X)
    kept = []

    class Table:
        pass

    def run(x):
        table = Table()
        kept.append(weakref.ref(table))
        other = nn.remat(type("Other", (layer,), {"note": table}))
        return stack(other).apply(variables, x)

    with jax.checking_leaks():
        jax.jit(run)(X)
    gc.collect()
    assert kept[0]() is None


def test_bound_modules_run_without_sharing(counted, stack):
    layer, traces = counted()
    cls = nn.remat(layer)
    model = stack(cls)
    variables = model.init(KEYS, X)
    np.testing.assert_allclose(model.bind(variables)(X), model.apply(variables, X), rtol=1e-6)
    assert len(traces) == 3 + 1


def test_a_failed_trace_leaves_nothing_behind():
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(x.shape[-1], name="dense")(x) + self.variable("cache", "missing").value

    cls = nn.remat(Layer)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for number in range(2):
                with pytest.raises(errors.ScopeCollectionNotFound, match=f"layer_{number}"):
                    cls(name=f"layer_{number}")(x)
            return x

    params = {f"layer_{n}": {"dense": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}} for n in range(2)}
    Net().apply({"params": params}, X)
