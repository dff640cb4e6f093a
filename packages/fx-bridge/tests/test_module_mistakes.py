"""Bridge modules: what is wrong is said."""

import fx_bridge as bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_bridge.errors import (
    ArgumentTypeError,
    BridgeError,
    UninitializedError,
)

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


def test_outside_of_init_and_apply():
    with pytest.raises(BridgeError, match=r"Dense\.param cannot be used here(.|\n)*module\.init"):
        Dense(2)(X)
    for function in (bridge.nnx_in_bridge_mdl, bridge.linen_in_bridge_mdl):
        with pytest.raises(BridgeError, match=f"{function.__name__} cannot be used here"):
            function(nn.Dense(2))

    with pytest.raises(ArgumentTypeError, match="a function of streams that makes an NNX module"):
        compact_module(lambda self: bridge.nnx_in_bridge_mdl(lambda rngs: 3)).init(KEY)


def test_missing_variables():
    with pytest.raises(UninitializedError, match=r"Dense lacks the variable params/w(.|\n)*mutable="):
        Network(4).apply({}, X, rngs=KEY)
    with pytest.raises(UninitializedError, match="lacks the variable cache/x"):
        compact_module(lambda self: self.variable("cache", "x")).init(KEY)
    _out, made = Dense(2).apply({}, X, rngs=KEY, mutable=["params"])
    assert shapes(made) == {"params": {"b": (2,), "w": (2, 2)}}
    with pytest.raises(BridgeError, match=r"list has no place for a variable(.|\n)*/more/7"):
        Network(4).apply({"params": {"more": {"7": {"w": X}}}}, X)


def both(one, two):
    def body(self):
        one(self)
        two(self)

    return compact_module(body)


def param(self):
    return self.param("Dense_0", nnx.initializers.ones, ())


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (both(param, param), "a variable of 'params', while a variable of 'params'"),
        (both(param, lambda self: self.variable("cache", "Dense_0", jnp.ones, ())), "a variable of 'cache', while"),
        (both(param, lambda self: Dense(2)(X)), "a submodule, while a variable of 'params'"),
        (both(lambda self: Dense(2)(X), param), "a variable of 'params', while a submodule"),
        (both(lambda self: Dense(2, name="Dense_0")(X), lambda self: Dense(2)(X)), "a submodule, while a submodule"),
    ],
)
def test_conflicting_names(model, text):
    with pytest.raises(BridgeError, match=f"'Dense_0' is taken(.|\n)*{text}"):
        model.init(KEY)


def test_a_variable_in_the_place_of_a_submodule():
    class Held(bridge.Module):
        def __init__(self):
            self.inner = Dense(2)

        def __call__(self, x):
            return self.inner(x)

    with pytest.raises(BridgeError, match=r"'inner' is taken in Held(.|\n)*a variable, while a Dense"):
        Held().apply({"params": {"inner": jnp.ones(2)}}, X)


def test_names_of_methods_and_of_two_collections():
    with pytest.raises(BridgeError, match=r"'train' is taken(.|\n)*a method has the name"):
        compact_module(lambda self: self.param("train", nnx.initializers.ones, ())).init(KEY)
    with pytest.raises(BridgeError, match=r"'train' is taken(.|\n)*a method has the name"):
        compact_module(lambda self: Dense(2, name="train")(X)).init(KEY)
    with pytest.raises(BridgeError, match="another collection has the name"):
        Dense(2).apply({"params": {"w": 1}, "cache": {"w": 1}}, X)
    with pytest.raises(BridgeError, match="another variable has the name"):
        Dense(2).apply({"params": {"w": 1}, "cache": {"w": {"x": 1}}}, X)
    other = compact_module(lambda self: Dense(2, name="x")(X))
    with pytest.raises(BridgeError, match="a Dense, while a Param has the name"):
        other.apply({"params": {"x": jnp.ones(())}})
