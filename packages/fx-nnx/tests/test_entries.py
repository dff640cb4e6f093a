"""What may stand for axes and specs, and what a step may do to the variables that it hands on."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import NnxError, PrefixError
from fx_transforms.errors import CarryChangedError

MODES = [{}, {"graph_updates": False}, {"graph": False}]


def pair() -> nnx.Dict:
    return nnx.Dict(a=nnx.Variable(jnp.array(1.0)), b=nnx.Variable(jnp.array(2.0)))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_prefixes_are_entries_in_the_places_of_variables(mode):
    model = nnx.Dict(inner=nnx.List([nnx.Param(jnp.ones(3)), nnx.BatchStat(jnp.array(2.0))]), w=nnx.data(jnp.ones(3)))
    axes = nnx.prefix(model, {nnx.Param: 0, nnx.BatchStat: None, ...: 0}, graph=mode.get("graph"))
    assert (axes.inner[0], axes.inner[1], axes.w) == (0, None, 0)
    axes = jax.tree.map(lambda axis: axis, axes)  # another object of the same entries
    axes.w = None
    out = nnx.vmap(lambda m: m.inner[0] * m.inner[1] + m.w, in_axes=(axes,), **mode)(model)
    np.testing.assert_array_equal(out, np.full((3, 3), 3.0))
    assert nnx.prefix(nnx.Param(1), {...: "x"}) == "x"


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_variables_are_no_entries(mode):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    model = nnx.Dict(a=nnx.Param(0))
    for entry in (model, model.a):
        with pytest.raises(PrefixError, match="in_axes of vmap has an entry that it cannot have"):
            nnx.vmap(lambda m: m, in_axes=(entry,), **mode)
        with pytest.raises(PrefixError, match="out_axes of pmap has an entry"):
            nnx.pmap(lambda m: m, out_axes=entry, **mode)
        with pytest.raises(PrefixError, match="in_specs of shard_map has an entry"):
            nnx.shard_map(lambda m: m, mesh=mesh, in_specs=(entry,), out_specs=None, **mode)
    with pytest.raises(PrefixError, match="a Param is no entry for a Param"):
        nnx.to_tree(nnx.Param(1), prefix=nnx.Param(0))


@pytest.mark.parametrize("axes", [{"a": 0}, "x", nnx.Dict(a=nnx.data(0))], ids=["dict", "text", "object"])
def test_in_axes_are_one_entry_or_a_tuple(axes):
    with pytest.raises(PrefixError, match="in_axes of vmap has an entry that it cannot have"):
        nnx.vmap(lambda m: m, in_axes=axes)
    with pytest.raises(PrefixError, match="in_axes of scan has an entry that it cannot have"):
        nnx.scan(lambda m: m, in_axes=axes, out_axes=0)


def test_entries_of_objects_are_for_objects():
    with pytest.raises(PrefixError, match="a Dict is no entry for a"):
        nnx.vmap(lambda x: x, in_axes=(nnx.Dict(a=nnx.data(0)),))(jnp.ones(3))


@pytest.mark.parametrize("mode", MODES[1:], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        lambda f, model, mode: nnx.eval_shape(f, model, **mode),
        lambda f, model, mode: nnx.jit(f, **mode).eval_shape(model),
        lambda f, model, mode: nnx.make_jaxpr(f, **mode)(model),
        lambda f, model, mode: nnx.jit(f, **mode)(model),
    ],
    ids=["eval_shape", "jit.eval_shape", "make_jaxpr", "jit"],
)
def test_functional_modes_refuse_variables_of_arguments_in_results(call, mode):
    with pytest.raises(NnxError, match="returns a Variable that the caller has already"):
        call(lambda m: m.a, pair(), mode)
    call(lambda m: nnx.clone(m), pair(), mode)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_shapes_may_be_those_of_a_model_from_outside(mode):
    model, one = pair(), jax.ShapeDtypeStruct((), jnp.float32, weak_type=True)
    assert nnx.eval_shape(lambda: model, **mode).a.get_value() == one
    assert nnx.eval_shape(lambda: nnx.state(model), **mode)["a"].get_value() == one
    assert nnx.eval_shape(lambda: [model.a], **mode)[0].get_value() == one
    assert len(nnx.make_jaxpr(lambda: nnx.state(model), **mode)().out_avals) == 2
    assert model.a[...] == 1
    assert not isinstance(model.a[...], jax.ShapeDtypeStruct)
    for refusing in (lambda f: nnx.jit(f, **mode)(), lambda f: nnx.jit(f, **mode).eval_shape()):
        with pytest.raises(NnxError, match="returns a Variable that the caller has already"):
            refusing(lambda: model)


def put_new(m):
    m.a = nnx.Variable(m.a[...] + 1)


def swap(m):
    m.a, m.b = m.b, m.a


def tie(m):
    m.b = m.a


def drop(m):
    del m.b


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("change", [put_new, swap, tie, drop])
def test_a_step_of_scan_keeps_the_variables_of_its_carry_in_place(change, mode):
    def step(m, x):
        change(m)
        return m, x

    model = pair()
    with pytest.raises(CarryChangedError, match="something else, or nothing, in the place of argument 0/"):
        nnx.scan(step, **mode)(model, jnp.arange(3))
    assert model.a[...] == 1


def exchange_objects(m):
    m.s, m.t = m.t, m.s


def put_object(m):
    m.s = nnx.Dict(x=nnx.data(m.s.x + 1))


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("change", [exchange_objects, put_object])
def test_a_step_of_scan_keeps_the_arrays_of_its_carry_in_place(change, mode):
    def step(m, x):
        change(m)
        return m, x

    model = nnx.Dict(s=nnx.Dict(x=nnx.data(jnp.ones(()))), t=nnx.Dict(x=nnx.data(jnp.zeros(()))))
    with pytest.raises(CarryChangedError, match="in the place of argument 0/s/x"):
        nnx.scan(step, **mode)(model, jnp.arange(3))


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_variables_that_state_axes_carry_stay_in_place(mode):
    def step(carry, m):
        put_new(m)
        return carry + m.a

    axes = nnx.StateAxes({nnx.Variable: nnx.Carry})
    with pytest.raises(CarryChangedError, match="in the place of argument 1/a"):
        nnx.scan(step, in_axes=(nnx.Carry, axes), out_axes=nnx.Carry, length=3, **mode)(jnp.zeros(()), pair())


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_items_of_containers_may_change_places(mode):
    def step(m, x):
        m.s = [m.s[1], m.s[0] + 10]
        return m, m.s[0]

    model = nnx.Dict(s=nnx.data([jnp.array(1.0), jnp.array(2.0)]))
    model, seen = nnx.scan(step, **mode)(model, jnp.arange(3))
    np.testing.assert_array_equal(seen, [2.0, 11.0, 12.0])
    np.testing.assert_array_equal(model.s, [12.0, 21.0])


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_step_of_scan_may_give_the_values_of_other_variables(mode):
    def step(carry, x):
        a, b = carry
        return (nnx.Variable(a + b), a), x

    a, b = nnx.Variable(jnp.array(1.0)), nnx.Variable(jnp.array(0.0))
    out, _ = nnx.scan(step, **mode)((a, b), jnp.arange(4))
    assert out[0] is a
    np.testing.assert_array_equal([a[...], b[...]], [5.0, 3.0])
