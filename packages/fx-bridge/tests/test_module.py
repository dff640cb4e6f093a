import typing

import fx_bridge as bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_bridge.errors import (
    ArgumentTypeError,
    BridgeError,
    InvalidAttributeError,
)
from fx_core.errors.scope import InvalidFilterError

X = jnp.linspace(-1, 1, 6).reshape(3, 2)


KEY = jax.random.key(0)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


class Dense(bridge.Module):
    features: int
    use_bias: bool = True

    @bridge.compact
    def __call__(self, x):
        x = x @ self.param("w", nnx.initializers.lecun_normal(), (x.shape[-1], self.features))
        return x + self.param("b", nnx.initializers.zeros, (self.features,))[None] if self.use_bias else x


def compact_module(body, **attributes):
    return type("Anonymous", (bridge.Module,), {"__call__": bridge.compact(body), **attributes})()


def test_init_and_apply():
    model = Dense(3)
    variables = model.init(KEY, X)
    expected = nnx.initializers.lecun_normal()(jax.random.fold_in(KEY, 0), (2, 3))
    np.testing.assert_array_equal(variables["params"]["w"], expected)
    for rngs in ({"params": KEY}, nnx.Rngs(0), {"default": KEY}):
        jax.tree.map(np.testing.assert_array_equal, model.init(rngs, X), variables)
    out, again = model.init_with_output(KEY, X)
    np.testing.assert_array_equal(model.apply(variables, X), out)
    np.testing.assert_array_equal(jax.jit(model.apply)(again, X), out)
    assert not hasattr(model, "w")
    assert model.scope is None


class Network(bridge.Module):
    width: int

    def setup(self):
        self.first = Dense(self.width)
        self.more = [Dense(2), Dense(2)]

    @bridge.compact
    def __call__(self, x):
        x = self.first(x)
        for layer in self.more:
            x = layer(x)
        x = Dense(2)(x)
        return Dense(1, name="head")(x)

    def encode(self, x):
        return self.first(x)


def test_names_in_setup_lists_and_compact_methods():
    variables = Network(4).init(KEY, X)
    assert shapes(variables["params"]) == {
        "first": {"b": (4,), "w": (2, 4)},
        "more": {0: {"b": (2,), "w": (4, 2)}, 1: {"b": (2,), "w": (2, 2)}},
        "Dense_0": {"b": (2,), "w": (2, 2)},
        "head": {"b": (1,), "w": (2, 1)},
    }
    as_text = {**variables["params"], "more": {str(k): v for k, v in variables["params"]["more"].items()}}
    np.testing.assert_array_equal(Network(4).apply({"params": as_text}, X), Network(4).init_with_output(KEY, X)[0])


def test_methods_by_name():
    variables = Network(4).init(KEY, X)
    assert Network(4).apply(variables, X, method="encode").shape == (3, 4)
    assert Network(4).apply(variables, X, method=Network.encode).shape == (3, 4)
    assert set(Network(4).init(KEY, X, method="encode")["params"]) == {"first"}
    with pytest.raises(InvalidAttributeError, match=r"Network has no method 'decode'(.|\n)*encode"):
        Network(4).apply(variables, X, method="decode")
    with pytest.raises(InvalidAttributeError, match="Network has no method 4"):
        Network(4).apply(variables, X, method=4)


def test_constructors_written_by_hand():
    class Base(bridge.Module):
        def __init__(self, width):
            self.inner = Dense(width)

        def __call__(self, x):
            return self.inner(x)

    class Derived(Base):
        pass

    assert shapes(Derived(3).init(KEY, X)) == {"params": {"inner": {"b": (3,), "w": (2, 3)}}}


class Counting(bridge.Module):
    @bridge.compact
    def __call__(self, x):
        count = self.variable("counts", "calls", lambda: jnp.zeros((), int))
        count.value += 1
        mean = self.variable("batch_stats", "mean", jnp.zeros, (2,))
        mean[...] = x.mean(0)
        return x * self.param("scale", nnx.initializers.ones, ())


def test_only_mutable_collections_change():
    variables = Counting().init(KEY, X)
    assert variables["counts"]["calls"] == 1
    assert Counting().apply(variables, X).shape == X.shape
    _, updated = Counting().apply(variables, 2 * X, mutable=["counts"])
    assert updated["counts"]["calls"] == 2
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], variables["batch_stats"]["mean"])
    assert set(updated) == {"params", "batch_stats", "counts"}
    _, updated = Counting().apply(variables, 2 * X, mutable=True)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 2 * X.mean(0))
    with pytest.raises(InvalidFilterError):
        Counting().apply(variables, X, mutable=3)


def test_who_is_running():
    seen = []

    def body(self, x):
        entry = bridge.current_context()
        seen.append((bridge.current_module() is self, entry.in_compact, self.is_initializing()))
        assert set(self.variables.get("params", {})) <= {"p"}
        self.param("p", nnx.initializers.ones, ())
        return x

    model = compact_module(body)
    variables = model.init(KEY, X)
    model.apply(variables, X)
    assert seen == [(True, True, True), (True, True, False)]
    assert bridge.current_module() is None
    assert bridge.current_context() is None
    assert model.variables == {}


def test_keys():
    def body(self):
        return self.make_rng(), self.make_rng("dropout"), self.make_rng("params")

    model = compact_module(body)
    one, two, three = model.apply({}, rngs=KEY)
    assert [one, two, three] == [jax.random.fold_in(KEY, i) for i in range(3)]
    one, two, three = model.apply({}, rngs={"params": KEY, "dropout": jax.random.key(1)})
    assert [one, three] == [jax.random.fold_in(KEY, i) for i in range(2)]
    assert two == jax.random.fold_in(jax.random.key(1), 0)
    with pytest.raises(InvalidAttributeError, match="no RNG stream 'default'"):
        model.apply({})
    with pytest.raises(ArgumentTypeError, match="no RNG streams"):
        model.apply({}, rngs="3")


def test_the_first_attribute_owns_what_is_shared():
    class Child(bridge.Module):
        inner: Dense

        def __call__(self, x):
            return self.inner(x)

    class Parent(bridge.Module):
        priority: typing.Any = None

        def setup(self):
            self.mine = Dense(2)
            if self.priority is not None:
                self.set_attr_priority("mine", self.priority)

        @bridge.compact
        def __call__(self, x):
            return Child(self.mine)(x)

    made = Parent().init(KEY, X)
    assert set(made["params"]) == {"Child_0"}
    assert Parent().apply(made, X).shape == (3, 2)
    assert set(Parent(bridge.AttrPriority.HIGH).init(KEY, X)["params"]) == {"mine"}


def test_a_module_called_twice_uses_its_variables_twice():
    class Inner(bridge.Module):
        @bridge.compact
        def __call__(self, x):
            count = self.variable("counts", "calls", lambda: jnp.zeros((), int))
            count[...] += 1
            return Dense(2)(x)

    def body(self, x):
        inner = Inner()
        return inner(inner(x))

    model = compact_module(body)
    variables = model.init(KEY, X)
    assert set(variables["params"]) == {"Inner_0"}
    w, b = (variables["params"]["Inner_0"]["Dense_0"][name] for name in "wb")
    out, updated = model.apply(variables, X, mutable=["counts"])
    np.testing.assert_allclose(out, (X @ w + b[None]) @ w + b[None], rtol=1e-6)
    assert updated["counts"]["Inner_0"]["calls"] - variables["counts"]["Inner_0"]["calls"] == 2


def test_modules_of_nnx_and_linen_inside():
    def body(self, x):
        x = bridge.nnx_in_bridge_mdl(lambda rngs: nnx.Linear(2, 2, rngs=rngs))(x)
        x = bridge.nnx_in_bridge_mdl(lambda rngs: nnx.Dropout(0.5, rngs=rngs))(x, deterministic=not train)
        x = bridge.linen_in_bridge_mdl(nn.BatchNorm(use_running_average=not train), name="norm")(x)
        self.sow(nnx.Intermediate, "seen", x)
        return bridge.linen_in_bridge_mdl(nn.Dense(2))(Dense(2)(x))

    model, train = compact_module(body), True
    variables = model.init(KEY, X)
    assert set(variables["params"]) == {"Linear_0", "norm", "Dense_0", "Dense_1"}
    expected = nnx.initializers.lecun_normal()(jax.random.fold_in(KEY, 0), (2, 2))
    np.testing.assert_array_equal(variables["params"]["Linear_0"]["kernel"], expected)
    _out, updated = model.apply(variables, X, mutable=["batch_stats", "intermediates"], rngs=KEY)
    assert updated["batch_stats"]["norm"]["mean"].any()
    assert len(updated["intermediates"]["seen"]) == 2
    with pytest.raises(BridgeError, match="RNG stream that was not given"):
        model.apply(variables, X, mutable=True)
    train = False
    assert model.apply(variables, X).shape == (3, 2)


def test_metadata():
    def body(self):
        self.param("boxed", bridge.with_partitioning(nnx.initializers.ones, ("a", None)), (2, 3))
        self.param("tagged", nnx.with_metadata(nnx.initializers.ones, tag="t"), (2,))
        assert self.boxed.sharding_names == ("a", None)
        return self.tagged.tag

    model = compact_module(body)
    variables = model.init(KEY)
    assert type(variables["params"]["boxed"]) is nn.Partitioned
    assert model.apply(variables) == "t"
    renamed = {"boxed": variables["params"]["boxed"].replace(names=("a", None)), "tagged": jnp.ones(2)}
    with pytest.raises(AttributeError):
        model.apply({"params": renamed})


def test_bridge_modules_inside_of_other_modules():
    class Holder(nnx.Module):
        def __init__(self, rngs):
            self.net = bridge.ToNNX(Network(4), rngs=rngs)

        def __call__(self, x):
            return self.net(x)

    model = bridge.lazy_init(Holder(nnx.Rngs(0)), X)
    assert model.net.first.w.shape == (2, 4)
    assert model(X).shape == (3, 1)
    assert bridge.ToNNX(Network(4), rngs=nnx.Rngs(0)).lazy_init(X).head.w.shape == (2, 1)
    linen = bridge.to_linen(Holder)
    variables = linen.init(KEY, X)
    assert shapes(variables["params"]["net"]["head"]) == {"b": (1,), "w": (2, 1)}
    assert linen.apply(variables, X).shape == (3, 1)


def test_compact_methods_that_call_each_other_go_on_with_names():
    class Both(bridge.Module):
        @bridge.compact
        def __call__(self, x):
            return Dense(2)(self.encode(x))

        @bridge.compact
        def encode(self, x):
            return Dense(3)(x)

    made = Both().init(KEY, X)["params"]
    assert {name: shape["w"] for name, shape in shapes(made).items()} == {"Dense_0": (3, 2), "Dense_1": (2, 3)}


class Scaled(nnx.Module):
    def __init__(self, rngs):
        self.scale = nnx.Param(rngs.params.normal((2,)))

    def __call__(self, x):
        return x * jnp.broadcast_to(self.scale.get_value(), x.shape)


def test_modules_of_nnx_and_linen_in_setup():
    class Network(bridge.Module):
        def setup(self):
            self.first = bridge.nnx_in_bridge_mdl(lambda rngs: Scaled(rngs))
            self.layers = [bridge.linen_in_bridge_mdl(nn.Dense(2)), bridge.nnx_in_bridge_mdl(Scaled)]

        def __call__(self, x):
            x = self.first(x)
            for layer in self.layers:
                x = layer(x)
            return x

    x = jnp.ones((3, 2))
    y, variables = Network().init_with_output(0, x)
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "first": {"scale": (2,)},
        "layers": {0: {"kernel": (2, 2), "bias": (2,)}, 1: {"scale": (2,)}},
    }
    np.testing.assert_array_equal(Network().apply(variables, x), y)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, variables)
    assert not np.allclose(Network().apply(doubled, x), y)


def test_names_in_setup_and_as_a_field():
    class Named(bridge.Module):
        name: str

        @bridge.compact
        def __call__(self, x):
            return x * self.param("scale", jax.nn.initializers.ones, ())

    class Plain(bridge.Module):
        @bridge.compact
        def __call__(self, x):
            return x * self.param("scale", jax.nn.initializers.ones, ())

    class Network(bridge.Module):
        def setup(self):
            self.layers = [Plain(name=f"layer_{i}") for i in range(2)]

        @bridge.compact
        def __call__(self, x):
            named = Named(name="own")
            assert named.name == "own"
            assert self.own is named
            for layer in self.layers:
                x = layer(x)
            return named(x)

    variables = Network().init(jax.random.key(0), 3.0)
    assert sorted(variables["params"]) == ["layer_0", "layer_1", "own"]
    assert Network().apply({"params": {n: {"scale": 2.0} for n in ("layer_0", "layer_1", "own")}}, 3.0) == 24


def test_what_another_module_made_in_its_setup():
    class Inner(bridge.Module):
        def setup(self):
            self.layer = bridge.nnx_in_bridge_mdl(Scaled)

    class Outer(bridge.Module):
        def setup(self):
            self.inner = Inner()
            self.layer = self.inner.layer

        def __call__(self, x):
            return self.layer(x)

    variables = Outer().init(0, jnp.ones(2))
    assert jax.tree.map(jnp.shape, variables) == {"params": {"inner": {"layer": {"scale": (2,)}}}}
    np.testing.assert_array_equal(Outer().apply(variables, jnp.ones(2)), variables["params"]["inner"]["layer"]["scale"])
    with pytest.raises(AttributeError, match="nothing"):
        Outer().nothing  # noqa: B018


def test_seeds_are_streams():
    class Draws(bridge.Module):
        def __call__(self):
            return self.make_rng("noise")

    expected = Draws().apply({}, rngs=nnx.Rngs(noise=3))
    assert (Draws().apply({}, rngs={"noise": 3}) == expected).all()
    assert (Draws().apply({}, rngs=3) == Draws().apply({}, rngs=jax.random.key(3))).all()
