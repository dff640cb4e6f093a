"""Functions compiled by plain JAX that read variables from outside: never old values in silence."""

import collections
import functools
import gc
import logging
import types

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest

ONE = jnp.ones(())

WAYS = {
    "jit": lambda f: jax.jit(f),
    "checkpoint": lambda f: jax.checkpoint(f),
    "grad of jit": lambda f: jax.grad(jax.jit(f)),
    "scan": lambda f: (lambda body: lambda x: jax.lax.scan(body, x, None, length=1)[0])(lambda c, _: (f(c), None)),
    "cond": lambda f: lambda x: jax.lax.cond(x > 0, f, f, x),
    "while": lambda f: lambda x: jax.lax.while_loop(lambda c: c < 2, f, x),
    "pmap": lambda f: (lambda mapped: lambda x: mapped(x[None])[0])(jax.pmap(f)),
}


def product(variable):
    return lambda x: x * variable[...]


@pytest.fixture
def param():
    return nnx.Param(jnp.array(2.0))


@pytest.mark.parametrize("way", WAYS)
def test_function_of_plain_jax_in_a_compiled_one_sees_new_values(param, way):
    inner = WAYS[way](product(param))
    f = nnx.jit(lambda x: inner(x))
    assert f(ONE) == 2
    param[...] = 5.0
    assert f(ONE) == 5
    param.set_value(jnp.array(7.0))
    assert f(ONE) == 7


def test_what_plain_jax_has_kept_before_is_not_used(param):
    inner = jax.jit(product(param))
    inner(ONE)
    first, second = nnx.jit(lambda x: inner(x)), nnx.jit(lambda x: inner(x) + 1)
    assert (first(ONE), second(ONE)) == (2, 3)
    param[...] = 5.0
    assert (second(ONE), first(ONE)) == (6, 5)
    assert nnx.jit(lambda x: inner(x) - 1)(ONE) == 4


@pytest.mark.parametrize("compiled", [False, True])
def test_function_of_plain_jax_in_a_loop_sees_new_values(param, compiled):
    inner = jax.jit(product(param))

    def loop(x):
        return nnx.fori_loop(0, 1, lambda i, c: inner(c), x)

    call = nnx.jit(loop) if compiled else (lambda body: lambda x: nnx.fori_loop(0, 1, body, x))(lambda i, c: inner(c))
    assert call(ONE) == 2
    param[...] = 5.0
    assert call(ONE) == 5


def change_in_step(model):
    @nnx.jit
    def step(model):
        model.w[...] += 1

    step(model)
    step(model)


CHANGES = {
    "write": lambda model: model.w.set_value(jnp.array(5.0)),
    "write into": lambda model: model.w.__setitem__(..., 5.0),
    "update": lambda model: nnx.update(model, nnx.state(nnx.Dict(w=nnx.Param(jnp.array(5.0))))),
    "step": change_in_step,
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_what_plain_jax_has_taken_for_a_constant_is_told(param, change, caplog):
    model = nnx.Dict(w=param)
    jax.jit(product(param))(ONE)
    with caplog.at_level(logging.WARNING, "fx.nnx.jit"):
        param.set_raw_value(param.get_raw_value())  # no change
        assert not caplog.records
        CHANGES[change](model)
        CHANGES[change](model)
    (record,) = caplog.records
    assert "Dict/w changes, and <lambda>" in record.message
    assert "for ever" in record.message


QUIET = {
    "grad": lambda param: jax.grad(product(param))(ONE),
    "vmap": lambda param: jax.vmap(product(param))(ONE[None]),
    "argument": lambda param: jax.jit(lambda p, x: product(p)(x))(param, ONE),
    "merged": lambda param: (lambda d, s: jax.jit(lambda s, x: product(nnx.merge(d, s))(x))(s, ONE))(*nnx.split(param)),
    "made inside": lambda param: jax.jit(lambda x: product(nnx.Param(2.0))(x))(ONE),
    "our scan": lambda param: nnx.scan(lambda c, _: (param * c, None), in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))(
        ONE, ONE[None]
    ),
    "our remat": lambda param: nnx.remat(product(param))(ONE),
    "our eval_shape": lambda param: nnx.eval_shape(product(param), ONE),
    "reference": lambda param: jax.jit(product(nnx.Param(ONE, ref=True)))(ONE),
}


@pytest.mark.parametrize("way", QUIET)
def test_reading_without_keeping_is_no_matter(param, way, caplog):
    QUIET[way](param)
    with caplog.at_level(logging.WARNING, "fx.nnx.jit"):
        param[...] = 5.0
    assert not [record for record in caplog.records if "plain JAX" in record.message]


def test_what_was_read_may_go():
    from fx_nnx.captures import constants

    gc.collect()
    before = len(constants)
    param = nnx.Param(ONE)
    jax.jit(product(param))(ONE)
    assert len(constants) == before + 1
    del param
    gc.collect()
    assert len(constants) <= before


class Scale(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.array(2.0))
        self.factor = 1.0

    def __call__(self, x):
        return self.w[...] * x * self.factor


class Holder:
    def __init__(self, model):
        self.model = model

    def __call__(self, x):
        return self.model(x)


def by_default(model):
    return lambda x, model=model: model(x)


def by_default_of_a_name(model):
    def f(x, *, model=model):
        return model(x)

    return f


HOLDERS = {
    "closure": lambda model: lambda x: model(x),
    "default": by_default,
    "default by name": by_default_of_a_name,
    "object": Holder,
    "method of an object": lambda model: Holder(model).__call__,
    "object in a closure": lambda model: (lambda held: lambda x: held(x))(Holder(model)),
    "object in a partial": lambda model: functools.partial(lambda held, x: held.model(x), Holder(model)),
    "namespace in a list": lambda model: (lambda held: lambda x: held[0].m(x))([types.SimpleNamespace(m=model)]),
    "other mapping": lambda model: (lambda held: lambda x: held["m"](x))(collections.UserDict(m=model)),
    "other sequence": lambda model: (lambda held: lambda x: held[0](x))(collections.deque([model])),
}


@pytest.mark.parametrize("how", HOLDERS)
def test_structure_of_a_module_that_is_seen_from_outside(how):
    model = Scale()
    f = nnx.jit(HOLDERS[how](model))
    assert f(ONE) == 2
    model.w[...] = 5.0
    assert f(ONE) == 5
    model.w = nnx.Param(jnp.array(7.0))
    assert f(ONE) == 7
    model.factor = 2.0
    assert f(ONE) == 14
