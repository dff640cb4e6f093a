"""Hooks that subclasses of variables have as methods, and methods of variables that they override."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import optax
import pytest


class Hooked(nnx.Param):
    def on_create_value(self, value):
        return value + 100

    def on_get_value(self, value):
        return value * 2

    def on_set_value(self, value):
        return value + 1


def test_values_pass_through_methods_of_the_class():
    variable = Hooked(jnp.array(1.0))
    assert variable[...] == 202
    variable.set_value(jnp.array(3.0))
    assert (variable.get_raw_value(), variable.get_value()) == (4, 8)
    variable[...] = 5.0
    assert variable + 1 == 13


def add_one(variable):
    variable[...] = variable[...] + 1
    return variable[...]


def scanned(variable):
    def step(carry, _):
        return carry, add_one(carry)

    return nnx.scan(step, in_axes=(nnx.Carry, None), out_axes=(nnx.Carry, 0), length=1)(variable, None)[1][0]


CALLS = {
    "plain": add_one,
    "jit": nnx.jit(add_one),
    "remat": nnx.remat(add_one),
    "vmap": lambda v: nnx.vmap(add_one, in_axes=None, out_axes=None, axis_size=1)(v),
    "scan": scanned,
}


@pytest.mark.parametrize("call", CALLS)
def test_transforms_call_methods_of_the_class(call):
    variable = Hooked(jnp.array(1.0))
    assert CALLS[call](variable) == 2 * (202 + 1 + 1)
    assert variable.get_raw_value() == 204


def test_copies_keep_values_and_hooks():
    variable = Hooked(jnp.array(1.0))
    for copy in (variable.copy(), nnx.clone(nnx.Dict(v=variable)).v, nnx.merge(*nnx.split(nnx.Dict(v=variable))).v):
        assert (copy.get_raw_value(), copy[...]) == (101, 202)


def test_metadata_comes_before_methods_of_the_class_and_subclasses_inherit():
    class Doubled(nnx.Param):
        on_get_value = (lambda variable, value: value * 2, lambda variable, value: value + 1)

    class Derived(Doubled):
        pass

    assert Derived(jnp.array(1.0))[...] == 3
    assert Derived(jnp.array(1.0), on_get_value=lambda variable, value: value - 1)[...] == 0


def test_axes_are_announced_to_methods_of_the_class():
    seen = []

    class Announced(nnx.Param):
        def on_add_axis(self, index, name):
            seen.append(("add", index, name))

        def on_remove_axis(self, index, name):
            seen.append(("remove", index, name))

    double = nnx.vmap(lambda model: model.v[...] * 2, transform_metadata={nnx.PARTITION_NAME: "layers"})
    double(nnx.Dict(v=Announced(jnp.ones((3, 2)))))
    assert seen[0] == ("remove", 0, "layers")


def test_gradients_and_updates_see_hooks_of_the_class():
    class Doubled(nnx.Param):
        def on_get_value(self, value):
            return value * 2

    model = nnx.Dict(w=Doubled(jnp.array(1.0)))
    (gradient,) = jax.tree.leaves(nnx.grad(lambda model: model.w[...] ** 2)(model))
    assert gradient == 8  # of (2 w)²
    optimizer = nnx.Optimizer(model, optax.sgd(0.25), wrt=nnx.Param)
    optimizer.update(model, nnx.grad(lambda model: model.w[...])(model))
    assert model.w.get_raw_value() == 0.5


def test_create_value_can_be_overridden():
    class Scaled(nnx.Variable):
        def create_value(self, value):
            return value * 10

        def get_value(self, **options):
            return super().get_value(**options) + 1

    assert Scaled(jnp.array(2.0))[...] == 21


def test_hooks_of_creation_run_once():
    def hook(variable, value):
        return value + 1

    first = nnx.Param(jnp.zeros(()), on_create_value=hook, tag="a")
    second = nnx.BatchStat(first)
    assert (first[...], second[...], nnx.Param(second)[...], second.tag) == (1, 1, 1, "a")
    assert nnx.Param(first, on_create_value=hook)[...] == 2  # a hook of its own
