"""The options hijax, ref and eager_sharding of variables: each does something, or is refused."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import ImmutableVariableError
from fx_nnx.errors import ArgumentTypeError, NnxError, TraceLevelError
from fx_nnx.variables import HijaxVariable

OPTIONS = ("hijax", "ref", "eager_sharding")


def write(variable):
    variable[...] = variable + 1
    return variable[...]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("value", ["x", 1, None])
def test_options_are_true_or_false(option, value):
    v = nnx.Param(jnp.ones(()))
    if value is None:
        assert nnx.Param(jnp.ones(()), **{option: None}).get_metadata(option) == v.get_metadata(option)
    else:
        with pytest.raises(ArgumentTypeError, match=rf"Variable\({option}=...\) is on or off"):
            nnx.Param(jnp.ones(()), **{option: value})
    for change in (
        lambda: v.set_metadata(option, value),
        lambda: v.copy(**{option: value}),
        lambda: nnx.Param.from_metadata(jnp.ones(()), {option: value}),
    ):
        with pytest.raises(ArgumentTypeError, match=option):
            change()


@pytest.mark.parametrize("option", ["hijax", "ref"])
def test_kinds_of_storage_do_not_change_in_place(option):
    v = nnx.Param(jnp.ones(()))
    with pytest.raises(ValueError, match=f"cannot change '{option}' in place"):
        v.set_metadata(**{option: True})
    with pytest.raises(NnxError):
        v.set_metadata({option: True, "tag": 1})
    v.set_metadata(**{option: False})
    assert v.get_metadata(exclude_required=True) == {}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("copy_ref", [False, True])
def test_copies_have_the_storage_that_they_say(before, after, copy_ref):
    v = nnx.Param(jnp.ones(2), ref=before)
    made = v.copy(ref=after, _copy_ref=copy_ref)
    assert made.ref is isinstance(made.get_raw_value(), jax.Ref) is after
    v[...] = jnp.zeros(2)
    shared = before and after and not copy_ref
    assert made[...].tolist() == ([0, 0] if shared else [1, 1])


PLAIN = {
    "jit": lambda f, v: jax.jit(f)(v),
    "vmap": lambda f, v: jax.vmap(f, in_axes=None, axis_size=2)(v),
    "grad": lambda f, v: jax.grad(f)(v),
    "scan": lambda f, v: jax.lax.scan(lambda c, _: (c, f(c)), v, None, length=2),
    "cond": lambda f, v: jax.lax.cond(True, f, f, v),
    "checkpoint": lambda f, v: jax.checkpoint(f)(v),
}


@pytest.mark.parametrize("way", PLAIN)
def test_writing_to_hijax_variables_in_plain_jax_is_refused_instead_of_lost(way):
    v = nnx.Param(jnp.ones(()), hijax=True)
    PLAIN[way](lambda v: v * 2, v)
    with pytest.raises(ImmutableVariableError, match=r"hijax=True(.|\n)*nnx.jit"):
        PLAIN[way](write, v)
    model = nnx.Dict(a=nnx.Dict(v=v))
    with pytest.raises(ImmutableVariableError):
        jax.jit(lambda m: write(m.a.v))(model)
    with pytest.raises(TraceLevelError):
        jax.jit(lambda: write(v))()
    assert v[...] == 1


OURS = {
    "jit": lambda m: nnx.jit(lambda m: write(m.v))(m),
    "values": lambda m: nnx.jit(lambda m: write(m.v), graph_updates=False)(m),
    "tree": lambda m: nnx.jit(lambda m: write(m.v), graph=False, graph_updates=False)(m),
    "cond": lambda m: nnx.cond(jnp.array(True), lambda m: write(m.v), lambda m: m.v + 0, m),
    "eager": lambda m: write(m.v),
}


@pytest.mark.parametrize("way", OURS)
def test_our_transforms_bring_writes_to_hijax_variables_back(way):
    model = nnx.Dict(v=nnx.Param(jnp.ones(()), hijax=True))
    OURS[way](model)
    assert model.v[...] == 2
    assert model.v.hijax


def test_merged_variables_with_hijax_can_be_changed_and_returned():
    graphdef, state = nnx.split(nnx.Dict(v=nnx.Param(jnp.ones(()), hijax=True)))

    @jax.jit
    def step(state):
        model = nnx.merge(graphdef, state, copy=True)
        write(model.v)
        return nnx.state(model)

    assert step(state)["v"][...] == 2


def test_variables_with_hijax_are_known_by_isinstance():
    kind = HijaxVariable
    plain = nnx.Param(jnp.ones(2))
    for made in (nnx.Param(1.0, hijax=True), plain.copy(hijax=True), nnx.with_vars(plain, hijax=True)):
        assert isinstance(made, kind)
        assert isinstance(made, nnx.Param)
    assert not isinstance(plain, kind)
    assert not isinstance(jnp.ones(2), kind)
