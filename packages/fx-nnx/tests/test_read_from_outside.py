"""Functions compiled by plain JAX that read variables from outside: never old values in silence."""

import collections
import collections.abc
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


class Plain(nnx.Module):
    """Without a variable that is read: its attributes are all that a function sees of it."""

    def __init__(self):
        self.factor = 2
        self.table = nnx.data(jnp.array(3.0))
        self.parts = nnx.List([nnx.Dropout(0.5, deterministic=True)])
        self.config = types.SimpleNamespace(size=1)


PARTS = {
    "attribute": (lambda m, x: x * m.factor, lambda m: setattr(m, "factor", 5), 2, 5),
    "attribute of another type": (
        lambda m, x: x * isinstance(m.factor, float),
        lambda m: setattr(m, "factor", 2.0),
        0,
        1,
    ),
    "array without a variable": (lambda m, x: x * m.table, lambda m: setattr(m, "table", jnp.array(5.0)), 3, 5),
    "mode": (lambda m, x: x * (2 if m.parts[0].deterministic else 3), lambda m: m.train(), 2, 3),
    "new attribute": (lambda m, x: x * hasattr(m, "more"), lambda m: setattr(m, "more", 1), 0, 1),
    "number of parts": (lambda m, x: x * len(m.parts), lambda m: m.parts.append(nnx.Dropout(0.1)), 1, 2),
    "inside of a configuration": (lambda m, x: x * m.config.size, lambda m: setattr(m.config, "size", 4), 1, 4),
}
LOOKS = {
    "jit": lambda f: nnx.jit(lambda x: f(x)),
    "jit of jit": lambda f: (lambda inner: nnx.jit(lambda x: inner(x)))(nnx.jit(lambda x: f(x))),
    "jit of a loop of JAX": lambda f: (lambda body: nnx.jit(lambda x: jax.lax.fori_loop(0, 1, body, x)))(
        lambda i, x: f(x)
    ),
    "loop": lambda f: (lambda body: lambda x: nnx.fori_loop(0, 1, body, x))(lambda i, x: f(x)),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("part", PARTS)
def test_module_from_outside_of_which_no_variable_is_read(part, look):
    read, change, before, after = PARTS[part]
    model = Plain()
    f = LOOKS[look](lambda x: read(model, x))
    assert f(ONE) == before
    change(model)
    assert f(ONE) == after


def test_program_compiled_ahead_refuses_a_module_that_has_changed():
    model = Plain()
    compiled = nnx.jit(lambda x: x * model.factor).lower(ONE).compile()
    assert compiled(ONE) == 2
    model.factor = 3
    with pytest.raises(ValueError, match="other attributes"):
        compiled(ONE)


def counted(f):
    traces = []

    def inner(*args):
        traces.append(1)
        return f(*args)

    return inner, traces


def test_what_changes_nothing_of_a_module_from_outside_compiles_nothing():
    model = Plain()
    inner, traces = counted(lambda x: x * model.factor)
    f = nnx.jit(inner)
    f(ONE)
    model.factor = 4
    model.factor = 2
    model.extra = 1
    del model.extra
    assert (f(ONE), f(ONE)) == (2, 2)
    assert len(traces) == 1


def test_what_a_function_is_bound_to_is_not_seen_from_outside():
    model = Scale()
    inner, traces = counted(lambda model, x: model(x))
    f = nnx.jit(functools.partial(inner, model))
    for factor in (1.0, 2.0, 1.0, 2.0):  # both programs are kept
        model.factor = factor
        assert f(ONE) == 2 * factor
    assert len(traces) == 2


def test_module_that_only_shares_a_name_is_not_seen_from_outside():
    space = {"model": Scale(), "types": types}
    exec("def f(held, x): return held.model(x)", space)  # the name of the attribute is that of a global
    inner, traces = counted(space["f"])
    f, argument = nnx.jit(inner), nnx.Dict(model=space["model"])
    for factor in (1.0, 2.0, 1.0, 2.0):
        space["model"].factor = factor
        assert f(argument, ONE) == 2 * factor
    assert len(traces) == 2


def test_sequences_that_make_their_items_are_not_read():
    class Endless(collections.abc.Sequence):
        def __len__(self):
            return 10**12

        def __getitem__(self, index):
            raise AssertionError("an item was read")

    data, model = Endless(), Scale()
    assert nnx.jit(lambda model, x: model(x) * (len(data) > 0))(model, ONE) == 2


WAYS_TO_PUT_IN = {
    "state": nnx.state,
    "nested": lambda model: nnx.State(nnx.state(model).raw_mapping),
    "mapped": lambda model: nnx.state(model).map(lambda path, leaf: leaf),
    "dict": lambda model: dict(nnx.state(model)),
    "by jax": lambda model: jax.tree.map(lambda x: x, nnx.state(model)),
    "split": lambda model: nnx.split(model)[1],
}


@pytest.mark.parametrize("way", WAYS_TO_PUT_IN.values(), ids=WAYS_TO_PUT_IN)
def test_values_of_a_module_outside_that_are_put_into_another_one(way):
    outside = nnx.Dict(w=nnx.Param(jnp.ones(2)))

    @nnx.jit
    def put(model):
        nnx.update(model, way(outside))
        return model.w * 2

    model = nnx.Dict(w=nnx.Param(jnp.zeros(2)))
    assert put(model).tolist() == [2, 2]
    outside.w[...] = jnp.full(2, 5.0)
    assert put(model).tolist() == [10, 10]
    assert model.w[...].tolist() == [5, 5]
