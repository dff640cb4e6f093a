"""remat leaves numbers as they are: each test compares with the same network without it."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import config, errors

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


def test_layers_may_read_objects_that_change(stack):
    class Counter:
        n = 0.0

    counter = Counter()

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            counter.n += 1.0
            return x + counter.n

    def run(cls):
        counter.n = 0.0
        return stack(cls).apply({}, jnp.zeros(()))

    assert run(nn.remat(Layer)) == run(Layer) == 6.0
    assert jax.jit(lambda: run(nn.remat(Layer)))() == 6.0


def test_jit_inside_traces_equal_layers_once(counted, stack):
    layer, traces = counted()
    model = stack(nn.remat(nn.jit(layer)), count=5)
    variables = model.init(KEYS, X)
    traces.clear()
    loss = jax.jit(jax.grad(lambda variables: model.apply(variables, X).sum()))
    assert jax.tree.structure(loss(variables)) == jax.tree.structure(variables)
    assert len(traces) == 1


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


def test_settings_around_a_layer(same, counted):
    layer, _ = counted(lambda module, x: x + 0.01 * len(nn.get_logical_axis_rules()) + config.fix_rng_separator)

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
    layer, _ = counted(lambda module, x: nn.Dropout(0.5, deterministic=False)(x))

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
    class Layer(nn.Module):
        table: nn.Module

        def setup(self):
            self.dense = nn.Dense(4)

        def encode(self, x, head):
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


def test_effects_happen_for_each_layer(counted, stack):
    seen = []
    layer, _ = counted(lambda module, x: jax.debug.callback(lambda value: seen.append(float(value)), x[0, 0]) or x)
    cls = nn.remat(layer)
    model = stack(cls)
    variables = model.init(KEYS, X)
    jax.block_until_ready(jax.jit(model.apply)(variables, X))
    jax.effects_barrier()
    assert len(set(seen)) == 3


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


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", ["typed", "raw"])
def test_each_layer_draws_its_own_keys(same, counted, stack, compiled, kind, monkeypatch):
    key = jax.random.key(1) if kind == "typed" else jax.random.PRNGKey(1)
    monkeypatch.setitem(KEYS, "dropout", key)
    drawn = []

    def body(module, x):
        x = nn.Dropout(0.5, deterministic=False)(x)
        key = module.make_rng("dropout")
        module.make_rng("params" if module.has_rng("params") else "dropout")  # drawn for nothing
        drawn.append(key)
        # A function that is compiled by itself must not keep the key of one layer.
        noise = jax.jit(lambda: jax.random.normal(key, (2, 4)))()
        return x + noise + jax.random.uniform(key, (2, 4))

    layer, _ = counted(body)

    def make(transform):
        cls = transform(layer)
        return stack(cls)

    same(make, compiled=compiled, grads=compiled)


def test_calling_a_layer_again_draws_new_keys(same, counted):
    layer, _ = counted(lambda module, x: nn.Dropout(0.5, deterministic=False)(x))

    def make(transform):
        cls = transform(layer)

        class Twice(nn.Module):
            @nn.compact
            def __call__(self, x):
                first, second = cls(name="first"), cls(name="second")
                return second(first(second(first(x))))

        return Twice()

    same(make)


def test_variables_are_each_layers_own(same, counted, stack):
    def body(module, x):
        module.sow("intermediates", "seen", jnp.sum(x[0]))
        x = nn.BatchNorm(use_running_average=False)(x)
        calls = module.variable("counts", "calls", lambda: jnp.zeros(()))
        if not module.is_initializing():
            calls.value += jnp.sum(x[0])
        return x

    layer, _ = counted(body)

    def make(transform):
        cls = transform(layer)
        return stack(cls)

    state = same(make, mutable=["batch_stats", "intermediates", "counts"], steps=2, grads=True)
    assert len({float(layer["seen"][0]) for layer in state["intermediates"].values()}) == 3


def test_arguments_that_are_no_arrays(same):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, mode, *, scale):
            return nn.Dense(4)(x) * (scale if mode == "scaled" else 1.0)

    def make(transform):
        cls = transform(Layer, static_argnums=(2,))

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                for number, mode in enumerate(["scaled", "plain", "scaled", "plain"]):
                    x = cls(name=f"layer_{number}")(x, mode, scale=float(number + 1))
                return x

        return Net()

    same(make)
