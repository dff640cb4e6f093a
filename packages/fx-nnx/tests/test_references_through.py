"""Variables whose values live in references, through transforms: made inside, handed on, written in branches."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import NnxError
from fx_transforms.errors import TransformError

ONE = jnp.ones(())


def counter():
    return nnx.Dict(n=nnx.BatchStat(jnp.zeros(()), ref=True))


def count(model, *_):
    model.n[...] = model.n + 1


@pytest.mark.parametrize("options", [{}, {"graph_updates": False}, {"graph": False, "graph_updates": False}])
def test_references_made_inside_come_out_as_new_ones(options):
    make = nnx.jit(lambda x: nnx.Dict(w=nnx.Param(x, ref=True, tag="a"), k=nnx.Param(x)), **options)
    first, second = make(ONE), make(ONE * 2)
    for model, value in ((first, 1), (second, 2)):
        assert isinstance(model.w.get_raw_value(), jax.Ref)
        assert (model.w.ref, model.w.tag, model.w[...]) == (True, "a", value)
    first.w[...] = 5.0
    assert (first.w[...], second.w[...], first.k[...]) == (5, 2, 1)
    nnx.jit(count)(nnx.Dict(n=first.w))
    assert first.w[...] == 6


def test_references_are_added_to_arguments():
    @nnx.jit
    def grow(model):
        count(model)
        model.more = nnx.Cache(jnp.ones(2), ref=True)

    model = counter()
    grow(model)
    kept = model.n.get_raw_value()
    grow(model)
    assert model.n.get_raw_value() is kept
    assert model.n[...] == 2
    model.more[...] = jnp.zeros(2)
    assert model.more[...].tolist() == [0, 0]


def test_references_made_inside_of_mapped_functions_are_stacked():
    made = nnx.vmap(lambda x: nnx.Param(x, ref=True))(jnp.arange(3.0))
    assert isinstance(made.get_raw_value(), jax.Ref)
    assert made[...].tolist() == [0, 1, 2]
    made[...] = made + 1
    assert made[...].tolist() == [1, 2, 3]


def test_shapes_of_references_are_shapes():
    made = nnx.eval_shape(lambda: nnx.Param(jnp.ones(2), ref=True))
    assert made.ref
    assert isinstance(made.get_raw_value(), jax.ShapeDtypeStruct)


def test_one_reference_does_not_become_two():
    def twins(x):
        first = nnx.Param(x, ref=True)
        return first, first.copy(_copy_ref=False)

    with pytest.raises(NnxError, match=r"cannot come out of jit, since another variable has it"):
        nnx.jit(twins)(ONE)
    shared, same = nnx.jit(lambda x: (lambda p: (p, p))(nnx.Param(x, ref=True)))(ONE)
    assert shared is same
    with pytest.raises(NnxError, match="argument 0"):
        nnx.jit(lambda p: p.copy(_copy_ref=False))(shared)


WAYS = {
    "jit": lambda m: nnx.jit(count)(m),
    "cond": lambda m: nnx.cond(jnp.array(True), count, lambda m: None, m),
    "not cond": lambda m: nnx.cond(jnp.array(False), lambda m: None, count, m),
    "switch": lambda m: nnx.switch(jnp.array(1), [lambda m: None, count], m),
    "remat": lambda m: nnx.remat(count)(m),
    "fori_loop": lambda m: nnx.fori_loop(0, 1, lambda i, m: (count(m), m)[1], m),
    "scan carry": lambda m: nnx.scan(lambda m, x: (count(m), (m, x))[1], out_axes=(nnx.Carry, 0))(m, ONE[None]),
    "scan shared": lambda m: nnx.scan(
        lambda c, m: (count(m), (c, None))[1], in_axes=(nnx.Carry, None), out_axes=(nnx.Carry, 0), length=1
    )(ONE, m),
    "value_and_grad": lambda m: nnx.value_and_grad(lambda w, m: (count(m), w * w)[1])(ONE, m),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_what_transforms_write_to_references_arrives(way, compiled):
    model = counter()
    kept = model.n.get_raw_value()
    call = nnx.jit(lambda m: (WAYS[way](m), None)[1]) if compiled else WAYS[way]
    for steps in (1, 2):
        call(model)
        assert model.n[...] == steps
    assert model.n.get_raw_value() is kept
    assert model.n.ref


def test_loops_with_a_condition_refuse_references():
    with pytest.raises(TransformError, match=r"while_loop cannot hand on .*n.*, which is a reference"):
        nnx.while_loop(lambda m: m.n < 3, lambda m: (count(m), m)[1], counter())
