"""Modules that are in several places of a network: one name, one set of parameters, nothing left behind."""

from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core import config, struct

KEY = jax.random.key(0)
X = jnp.ones((1, 3))


@struct.dataclass
class Pair:
    second: Any
    first: Any


def many(shared):
    """Two places, where the tenth comes before the second by name."""
    return [nn.Dense(3) for _ in range(2)] + [shared] + [nn.Dense(3) for _ in range(7)] + [shared]


HOLDERS = {
    "a dict": (lambda shared: {"b": shared, "a": shared}, {"held_a"}),
    "a dict of numbers": (lambda shared: {10: shared, 2: shared}, {"held_10"}),
    "nested": (lambda shared: {"z": [shared], "y": {"q": shared}}, {"held_y_q"}),
    "a list": (many, {f"held_{n}" for n in (0, 1, 10, 3, 4, 5, 6, 7, 8, 9)}),
    "a dataclass": (lambda shared: Pair(shared, shared), {"held_first"}),
}


class Field(nn.Module):
    held: Any

    @nn.compact
    def __call__(self, x):
        for layer in jax.tree.leaves(self.held, is_leaf=lambda node: isinstance(node, nn.Module)):
            x = layer(x)
        return x


class Setup(nn.Module):
    make: Any

    def setup(self):
        self.held = self.make(nn.Dense(3))

    def __call__(self, x):
        return Field.__call__(self, x)


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_shared_module_is_called_by_the_first_place_in_order_of_keys(holder):
    make, names = HOLDERS[holder]
    assert set(Field(make(nn.Dense(3))).init(KEY, X)["params"]) == names
    assert set(Setup(make).init(KEY, X)["params"]) == names


def test_dicts_keep_their_order():
    class Net(nn.Module):
        def setup(self):
            self.held = {"b": nn.Dense(3), "a": nn.Dense(3)}

        def __call__(self):
            return list(self.held)

    assert Net().apply({}) == ["b", "a"]


def test_modules_from_outside_hold_no_tracers():
    outside = nn.Dense(3)

    class Net(nn.Module):
        layers: Any

        def setup(self):
            self.again = self.layers[0]

        def __call__(self, x):
            return self.again(self.layers[0](x))

    net = Net([outside])
    with jax.checking_leaks():
        variables = jax.vmap(net.init, in_axes=(0, None))(jax.random.split(KEY, 2), X)
        out = jax.jit(jax.vmap(net.apply, in_axes=(0, None)))(variables, X)
    assert list(variables["params"]) == ["layers_0"]
    assert out.shape == (2, 1, 3)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_class_decides_about_names_before_the_flag(keeps):
    class Net(nn.Module):
        layer: nn.Module
        preserve_adopted_names = keeps

        def __call__(self, x):
            return self.layer(x)

    with config.override(preserve_adopted_names=not keeps):
        variables = Net(nn.Dense(3, name="own")).init(KEY, X)
    assert list(variables["params"]) == (["own"] if keeps else ["layer"])


def test_submodules_that_share_a_scope_draw_the_keys_of_where_they_were():
    class Wrapped(nn.Module):
        inner: nn.Module

        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(self.inner(x))

    class Net(nn.Module):
        share: bool

        def setup(self):
            self.wrapped = Wrapped(nn.Sequential([nn.Dense(3)]))
            if self.share:
                nn.share_scope(self, self.wrapped)

        def __call__(self, x):
            return self.wrapped(x)

    shared = Net(share=True).init(KEY, X)["params"]
    apart = Net(share=False).init(KEY, X)["params"]["wrapped"]
    assert sorted(shared) == sorted(apart) == ["Dense_0", "inner"]
    kernels = [params["inner"]["layers_0"]["kernel"] for params in (shared, apart)]
    assert jnp.array_equal(*kernels)
    # What the shared scope itself makes is named and drawn as in the outer module.
    assert not jnp.array_equal(shared["Dense_0"]["kernel"], apart["Dense_0"]["kernel"])
