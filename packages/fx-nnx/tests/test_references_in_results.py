"""A `jax.Ref` that no variable holds, in results of transforms and in new attributes."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.errors import NnxError

ONE = jnp.ones(())
MODES = [{}, {"graph_updates": False}, {"graph": False, "graph_updates": False}]


def new(value=3.0):
    return jax.new_ref(jnp.array(value))


@pytest.mark.parametrize("options", MODES)
def test_result_has_the_references_of_the_caller_and_new_ones(options):
    @nnx.jit(**options)
    def f(ref, x):
        ref[...] += x
        made = new()
        made[...] += x
        return {"made": made, "given": [ref, None], "value": x, "again": made}

    ref = new()
    first, second = f(ref, ONE), f(ref, ONE)
    assert (first["given"][0] is ref, first["given"][1], first["value"]) == (True, None, 1)
    assert ref[...] == 5
    assert first["made"] is first["again"]
    assert first["made"] is not second["made"]
    first["made"][...] = 7.0
    assert (first["again"][...], second["made"][...]) == (7, 4)


TRANSFORMS = {
    "cond": lambda f: lambda x: nnx.cond(x > 0, f, f, x),
    "remat": nnx.remat,
    "jit of jit": lambda f: nnx.jit(nnx.jit(f)),
    "auxiliary result": lambda f: lambda x: nnx.grad(lambda x: (x, f(x)), has_aux=True)(x)[1],
    "compiled ahead": lambda f: nnx.jit(f).lower(ONE).compile(),
}


@pytest.mark.parametrize("how", TRANSFORMS)
def test_new_reference_comes_out_of(how):
    ref = TRANSFORMS[how](lambda x: jax.new_ref(x * 2))(ONE)
    ref[...] += 1.0
    assert ref[...] == 3


def test_reference_of_a_variable_is_returned():
    param = nnx.Param(ONE, ref=True)
    assert nnx.jit(lambda param: param.get_raw_value())(param) is param.get_raw_value()


def test_shapes_of_references():
    shapes = nnx.eval_shape(lambda ref: (ref, new()), new())
    assert shapes == (jax.ShapeDtypeStruct((), jnp.float32),) * 2


def test_attributes_get_references():
    @nnx.jit
    def f(model, other):
        model.made = model.again = new()
        model.given, model.moved = other, model.ref
        model.made[...] += 1.0

    model, other = nnx.Dict(ref=new(), w=nnx.Param(ONE)), new(5.0)
    f(model, other)
    assert model.given is other
    assert model.moved is model.ref
    assert model.made is model.again
    model.made[...] += 1.0
    assert (model.again[...], model.ref[...], other[...]) == (5, 3, 5)


def test_module_made_inside_shares_its_reference():
    class Two(nnx.Module):
        def __init__(self):
            self.a = self.b = new()

    model, second = nnx.jit(Two)(), nnx.jit(Two)()
    assert model.a is model.b
    model.a[...] = 1.0
    assert (model.b[...], second.a[...]) == (1, 3)


def test_reference_does_not_come_out_as_two():
    def both(model):
        model.made = new()
        return model.made

    with pytest.raises(NnxError, match="as two"):
        nnx.jit(both)(nnx.Dict(w=nnx.Param(ONE)))

    def move(model, other):
        model.moved = other.ref

    model, other = nnx.Dict(w=nnx.Param(jnp.ones(2))), nnx.Dict(ref=new())
    with pytest.raises(NnxError, match="as two"):
        nnx.vmap(move, in_axes=(0, None), out_axes=None)(model, other)


def test_branches_return_the_same_reference():
    ref, other = new(), new()
    assert nnx.cond(True, lambda a, b: a, lambda a, b: a, ref, other) is ref
    with pytest.raises(ValueError, match="branch"):
        nnx.cond(True, lambda a, b: a, lambda a, b: b, ref, other)
