"""Names, variables and classes under transforms: what is refused, and what is the same as without the transform."""

import functools
import gc
from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import errors

KEY = jax.random.key(0)
X = jnp.ones((2, 3))
FORMS = ["jit", "remat", "fold_rngs"]


class TwiceModule(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="a")(nn.Dense(3, name="a")(x))


class TwiceInSetup(nn.Module):
    def setup(self):
        self.sub = nn.Dense(3)
        self.sub = nn.Dense(3)

    def __call__(self, x):
        return x


class TwiceInList(nn.Module):
    def setup(self):
        self.subs = [nn.Dense(3), nn.Dense(3)]
        self.subs = [nn.Dense(3), nn.Dense(3)]

    def __call__(self, x):
        return x


class ParameterAndModule(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.param("a", nn.initializers.ones, ())
        return nn.Dense(3, name="a")(x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cls", [TwiceModule, TwiceInSetup, TwiceInList, ParameterAndModule])
def test_a_name_that_is_used_twice_is_refused(form, cls):
    with pytest.raises(errors.NameInUseError, match=r"'(a|sub|subs_0)'"):
        getattr(nn, form)(cls)().init(KEY, X)


def test_a_name_of_a_module_that_is_passed_in_is_refused():
    class Net(nn.Module):
        @nn.jit
        def helper(self, x, layer):
            nn.Dense(3, name="a")
            return layer(x)

        @nn.jit
        @nn.compact
        def __call__(self, x):
            return self.helper(x, nn.Dense(3, name="a"))

    with pytest.raises(errors.NameInUseError, match="'a'"):
        Net().init(KEY, X)


@pytest.mark.parametrize("form", FORMS)
def test_setup_runs_again_inside(form):
    class Net(nn.Module):
        def setup(self):
            self.sub, self.pair = nn.Dense(3), [nn.Dense(3), nn.Dense(3)]
            self.w = self.param("w", nn.initializers.ones, (1, 3))

        def helper(self, x, pair):
            return pair[1](pair[0](self.sub(x))) * self.w

        def __call__(self, x):
            lifted = getattr(nn, form)(Net.helper)
            return lifted(self, lifted(self, self.helper(x, self.pair), self.pair), self.pair)

    variables = Net().init(KEY, X)
    assert sorted(variables["params"]) == ["pair_0", "pair_1", "sub", "w"]
    expected = X
    for _ in range(3):
        expected = Net().apply(variables, expected, method=lambda module, x: module.helper(x, module.pair))
    assert jnp.allclose(Net().apply(variables, X), expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_variables_as_arguments(form):
    lifted = getattr(nn, form)

    class Net(nn.Module):
        @lifted
        @nn.compact
        def __call__(self, x):
            total = self.variable("state", "total", jnp.zeros, ())
            others = {"seen": self.variable("state", "seen", jnp.zeros, ())}
            return self.add(x, total, others=others)

        @lifted
        def add(self, x, total, others):
            total.value += x.sum()
            others["seen"].value += 1
            return total.value * others["seen"].value

    variables = Net().init(KEY, X)
    assert jax.tree.map(float, variables) == {"state": {"seen": 1.0, "total": 6.0}}
    y, updates = jax.jit(functools.partial(Net().apply, mutable=["state"]))(variables, X)
    assert float(y) == 24.0
    assert jax.tree.map(float, updates) == {"state": {"seen": 2.0, "total": 12.0}}


@pytest.mark.parametrize("form", FORMS)
def test_variables_in_fields(form):
    lifted = getattr(nn, form)

    class Inner(nn.Module):
        states: Any

        @lifted
        @nn.compact
        def __call__(self, x):
            self.states["total"].value += x.sum()
            return nn.Dense(3)(x)

    class Net(nn.Module):
        @lifted
        @nn.compact
        def __call__(self, x):
            total = self.variable("state", "total", jnp.zeros, ())
            return Inner({"total": total})(Inner({"total": total})(x)) * total.value

    variables = Net().init(KEY, X)
    assert sorted(variables["params"]) == ["Inner_0", "Inner_1"]
    _, updates = Net().apply(variables, X, mutable=["state"])
    first = X @ variables["params"]["Inner_1"]["Dense_0"]["kernel"]
    expected = variables["state"]["total"] + X.sum() + first.sum()
    assert jnp.allclose(updates["state"]["total"], expected, atol=1e-5)


def test_variables_as_operands_of_cond():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, on):
            total = self.variable("state", "total", jnp.zeros, ())

            def add(module, x, total):
                total.value += x.sum()
                return x

            def leave(module, x, total):
                return x - total.value

            return nn.cond(on, add, leave, self, x, total)

    variables = {"state": {"total": jnp.asarray(1.0)}}
    assert float(Net().apply(variables, X, True, mutable=["state"])[1]["state"]["total"]) == 7.0
    assert jnp.array_equal(Net().apply(variables, X, False, mutable=["state"])[0], X - 1)


class Step(nn.Module):
    features: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(self.features)(x) * self.scale, None


def test_classes_with_some_arguments_given():
    dense = functools.partial(nn.Dense, use_bias=False)
    options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    assert jax.tree.map(jnp.shape, nn.vmap(dense, **options)(4).init(KEY, X)) == {"params": {"kernel": (2, 3, 4)}}
    for form in FORMS:
        variables = getattr(nn, form)(functools.partial(dense, 4))().init(KEY, X)
        assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (3, 4)}}
    loop = nn.scan(functools.partial(Step, scale=0.0), length=2, **options)(3)
    (y, _), variables = loop.init_with_output(KEY, X, None)
    assert variables["params"]["Dense_0"]["kernel"].shape == (2, 3, 3)
    assert jnp.array_equal(y, jnp.zeros_like(X))


@pytest.fixture
def few_objects():
    """Keeps what is there from the collector, which the check for leaks calls at each trace: seconds become moments."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("form", [*FORMS, "vmap", "scan", "vjp"])
def test_transforms_keep_no_tracers(form, few_objects):
    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, *rest):
            y = nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x))
            return (y, None) if rest else y

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            options = {"variable_axes": {"params": 0}, "split_rngs": {"params": True, "dropout": True}}
            if form == "vmap":
                return nn.vmap(Layer, **options)()(x)
            if form == "scan":
                return nn.scan(Layer, length=2, in_axes=nn.broadcast, **options)()(x, 0)[0]
            if form == "vjp":
                return nn.vjp(lambda layer, x: layer(x), Layer(), x)[0]
            return getattr(nn, form)(Layer)()(x)

    keys = {"params": KEY, "dropout": jax.random.key(1)}
    with jax.checking_leaks():
        variables = Net().init(keys, X)
        jax.jit(Net().apply)(variables, X, rngs={"dropout": keys["dropout"]})
