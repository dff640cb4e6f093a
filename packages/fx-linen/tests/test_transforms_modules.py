"""Transforms of modules: what they promise beyond agreeing with Flax, and the errors."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import errors, serialization
from fx_transforms.errors import AxisSizeError, CollectionNotLiftedError

KEY = jax.random.key(0)
X = jnp.ones((4, 3))
OWN = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, *, factor=1.0):
        return nn.Dense(3)(x) * factor


def counted():
    traces = []

    class Counted(nn.Module):
        factor: float = 1.0
        sizes: tuple = ()

        @nn.compact
        def __call__(self, x):
            traces.append(self.factor)
            return nn.Dense(3)(x) * self.factor

    return Counted, traces


def test_equal_layers_are_traced_once():
    cls, traces = counted()
    compiled = nn.jit(cls)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                x = compiled(sizes=[1, {"a": jnp.float32}])(x)
            return x

    variables = Net().init(KEY, X)
    assert sorted(variables["params"]) == ["JitCounted_0", "JitCounted_1", "JitCounted_2"]
    assert len(traces) == 1
    for _ in range(2):
        Net().apply(variables, X)
    assert len(traces) == 2
    kernels = [layer["Dense_0"]["kernel"] for layer in variables["params"].values()]
    assert not jnp.array_equal(kernels[0], kernels[1])


@pytest.mark.parametrize(("first", "second"), [(1.0, 2.0), (1, 1.0), (0.0, -0.0), (1, True)])
def test_other_fields_are_traced_anew(first, second):
    cls, traces = counted()
    compiled = nn.jit(cls)
    for factor in (first, second, first):
        compiled(factor).init(KEY, X)
    assert [str(factor) for factor in traces] == [str(first), str(second)]


def test_objects_that_say_what_they_hold_are_not_compared():
    class Factor:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            raise AssertionError

        __hash__ = None

    serialization.register_serialization_state(Factor, vars, lambda target, state: Factor(**state))
    traces = []

    class Scaled(nn.Module):
        factor: Factor

        def __call__(self, x):
            traces.append(self.factor.value)
            return x * self.factor.value

    factor = Factor(2.0)
    model = nn.jit(Scaled)(factor)
    assert jnp.array_equal(model.apply({}, X), 2 * X)
    assert jnp.array_equal(model.apply({}, X), 2 * X)
    factor.value = 3.0  # what is compiled follows
    assert jnp.array_equal(model.apply({}, X), 3 * X)
    assert traces == [2.0, 3.0]


def test_functions_are_compiled_with_the_names_given_so_far():
    run = nn.jit(lambda module, x: nn.Dense(3)(x))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = run(self, x)
            x = run(self, x)
            return nn.Dense(3)(x)

    variables = Net().init(KEY, X)
    assert sorted(variables["params"]) == ["Dense_0", "Dense_1", "Dense_2"]
    # The second time nothing is traced, and the names are the same.
    assert jnp.array_equal(Net().apply(variables, X), Net().apply(variables, X))


def test_interceptors_and_captures_are_seen_in_compiled_modules():
    model = nn.jit(Layer)()
    variables = model.init(KEY, X)
    plain = model.apply(variables, X)

    def doubled(next_fun, args, kwargs, context):
        return next_fun(*args, **kwargs) * (2 if isinstance(context.module, nn.Dense) else 1)

    with nn.intercept_methods(doubled):
        assert jnp.allclose(model.apply(variables, X), 2 * plain)
    assert jnp.array_equal(model.apply(variables, X), plain)
    _, state = model.apply(variables, X, capture_intermediates=True)
    assert "Dense_0" in state["intermediates"]


@pytest.mark.parametrize("form", ["jit", "remat", "vmap", "fold_rngs"])
def test_arguments_by_name(form):
    options = OWN if form == "vmap" else {}
    model = getattr(nn, form)(Layer, **options)()
    variables = model.init(KEY, X)
    once, twice = model.apply(variables, X), model.apply(variables, X, factor=2.0)
    assert jnp.allclose(2 * once, twice)


def test_attributes_made_before_setup_come_along():
    class Ready(nn.Module):
        def __post_init__(self):
            self.offset = 5.0
            super().__post_init__()

        def setup(self):
            self.dense = nn.Dense(3)

        def __call__(self, x):
            return self.dense(x) * 0 + self.offset

    assert jnp.array_equal(nn.remat(Ready)().init_with_output(KEY, X)[0], jnp.full((4, 3), 5.0))
    assert nn.vmap(Ready, **OWN)().init(KEY, X)["params"]["dense"]["kernel"].shape == (4, 3, 3)


def test_options_by_method():
    class Pair(nn.Module):
        def setup(self):
            self.dense = nn.Dense(3)

        def rows(self, x):
            return self.dense(x)

        def columns(self, x):
            return self.dense(x.T).T

    shared = {"variable_axes": {"params": None}, "split_rngs": {"params": False}}
    cls = nn.vmap(Pair, **shared, methods={"rows": {}, "columns": {"in_axes": 2, "out_axes": 2}})
    x = jnp.ones((2, 3, 3))
    variables = cls().init(KEY, x, method="rows")
    assert jnp.allclose(
        cls().apply(variables, x, method="rows"),
        cls().apply(variables, x.transpose(2, 1, 0), method="columns").transpose(2, 1, 0),
    )
    assert issubclass(cls, Pair)
    assert cls.__name__ == "VmapPair"


def test_named_calls():
    class Net(nn.Module):
        @nn.named_call
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x)

    with nn.override_named_call(False):
        variables = Net().init(KEY, X)
        text = str(jax.make_jaxpr(Net().apply)(variables, X).pretty_print(name_stack=True))
    assert "Dense_0" in text
    assert nn.named_call(Layer.__call__, force=False) is Layer.__call__


@pytest.mark.parametrize("target", [nn.Dense(3), 3, int])
def test_targets(target):
    with pytest.raises(errors.TransformTargetError, match="take classes of modules and functions of modules"):
        nn.jit(target)


def test_results():
    class Net(nn.Module):
        @nn.jit
        @nn.compact
        def give(self):
            return nn.Dense(3)

    with pytest.raises(errors.TransformedMethodReturnValueError, match="'give' returned modules or variables"):
        Net().init(KEY, method="give")


def test_methods_are_named_in_a_list():
    with pytest.raises(errors.ArgumentError, match="names no methods"):
        nn.remat(Layer, methods="__call__")
    with pytest.raises(errors.InvalidAttributeError, match="Layer has no method 'nope'") as caught:
        nn.remat(Layer, methods=["nope"])
    assert "one of __call__" in str(caught.value)


def test_functions_get_a_module():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(lambda layers, x: layers[0](x))([nn.Dense(3)], x)

    with pytest.raises(errors.ArgumentTypeError, match="called on something else") as caught:
        Net().init(KEY, X)
    assert "list" in str(caught.value)


@pytest.mark.parametrize("kind", ["vjp", "jvp", "custom_vjp"])
def test_derivatives_in_several_places(kind):
    class Holder(nn.Module):
        inner: nn.Module

        def __call__(self, x):
            return self.inner(x)

    def fn(module, x):
        return module(x)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            holder = Holder(nn.Dense(3))
            if kind == "vjp":
                return nn.vjp(fn, holder, x)[0]
            if kind == "jvp":
                return nn.jvp(fn, holder, (x,), (x,), {})
            return nn.custom_vjp(fn, fn, fn)(holder, x)

    with pytest.raises(
        errors.UnsupportedOperationError, match=f"{kind} got a module whose variables are in several"
    ) as caught:
        Net().init(KEY, X)
    assert "Dense_0" in str(caught.value)


def test_errors_of_the_engine_reach_the_caller():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, y):
            return nn.vmap(lambda module, x, y: nn.Dense(3)(x) + y, **OWN)(self, x, y)

    with pytest.raises(AxisSizeError, match="vmap got different sizes"):
        Net().init(KEY, X, jnp.ones((5, 3)))
    with pytest.raises(CollectionNotLiftedError, match="uses the collection 'params', which is not lifted"):
        nn.vmap(Layer, split_rngs={"params": True})().init(KEY, X)
