"""Transforms inside of one another, in every mode and on devices, derivatives of both kinds, and mistakes."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.compat.jax import checkify
from fx_core.errors import FxError
from fx_nnx.errors import NnxError
from fx_transforms.errors import BroadcastVariableError
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec


class Net(nnx.Module):
    def __init__(self, scale=1.0):
        self.a = nnx.Param(jnp.full(2, scale))
        self.count = nnx.BatchStat(jnp.array(0.0))


def step(model, x):
    model.count[...] += 1
    return model.a * x * model.count


def test_vjp_in_both_modes():
    model = Net(2.0)
    out, backward, aux = nnx.vjp(lambda m, x: (step(m, x), x), model, jnp.ones(2), has_aux=True)
    g, gx = jax.jit(lambda b, c: b(c))(backward, jnp.ones(2))
    np.testing.assert_allclose(out, [2.0, 2.0])
    np.testing.assert_allclose(aux, 1.0)
    assert list(g) == ["a"]
    np.testing.assert_allclose(g.a[...], 1.0)
    np.testing.assert_allclose(gx, 2.0)
    _, backward = nnx.vjp(graph=False)(step, model, jnp.ones(2))
    tree, _ = backward(jnp.ones(2))
    assert isinstance(tree, Net)
    np.testing.assert_allclose(tree.count[...], 4.0)
    assert float(model.count[...]) == 2


@pytest.mark.parametrize("form", [lambda m: nnx.state(m, nnx.Param), lambda m: {"a": m.a[...]}, lambda m: m])
def test_jvp_takes_tangents_of_many_forms(form):
    model = Net(2.0)
    tangent = form(Net(1.0))
    out, moved, aux = nnx.jvp(lambda m, x: (step(m, x), 7), (model, jnp.ones(2)), (tangent, None), has_aux=True)
    np.testing.assert_allclose(out, 2.0)
    np.testing.assert_allclose(moved, 1.0)
    assert aux == 7
    _, moved = nnx.jvp(step, (model, jnp.ones(2)), (None, jnp.ones(2)))
    np.testing.assert_allclose(moved, 4.0)


def test_prefixes_of_models():
    model = nnx.Dict(a=nnx.Param(jnp.arange(3.0)), b=nnx.BatchStat(jnp.array(2.0)))
    axes = nnx.prefix(model, {nnx.Param: 0, ...: None})
    for options in ({}, {"graph": False}, {"graph_updates": False}):
        out = nnx.vmap(lambda m: m.a * m.b, in_axes=(axes,), **options)(model)
        np.testing.assert_allclose(out, [0.0, 2.0, 4.0])
    assert nnx.prefix(model, lambda path, variable: len(path)).a == 1


@settings(deadline=None, max_examples=12)
@given(st.lists(st.sampled_from(["jit", "remat", "vmap", "cond", "checkify", "scan"]), min_size=1, max_size=3))
def test_nested_transforms_equal_plain_python(names):
    def wrap(name, f):
        if name == "vmap":
            axes = nnx.StateAxes({...: None})
            return lambda m, x: nnx.vmap(f, in_axes=(axes, None), axis_size=2)(m, x)[0]
        if name == "scan":
            axes = nnx.StateAxes({...: nnx.Carry})
            return lambda m, x: nnx.scan(f, in_axes=(axes, 0), out_axes=0)(m, x[None])[0]
        if name == "cond":
            return lambda m, x: nnx.cond(True, f, lambda m, x: 0 * x, m, x)
        if name == "checkify":
            return lambda m, x: nnx.checkify(f)(m, x)[1]
        return getattr(nnx, name)(f)

    lifted = step
    for name in names:
        lifted = wrap(name, lifted)
    models = Net(3.0), Net(3.0)
    got, want = lifted(models[0], jnp.ones(2)), step(models[1], jnp.ones(2))
    np.testing.assert_allclose(got, want)
    assert float(models[0].count[...]) == 1


def test_trees_carry_what_steps_share():
    model = Net()
    scan = nnx.scan(lambda m, x: step(m, x), in_axes=(None, 0), out_axes=0, graph=False)
    np.testing.assert_allclose(scan(model, jnp.ones(3))[:, 0], [1.0, 2.0, 3.0])
    assert float(model.count[...]) == 3
    tree = nnx.grad(lambda m: step(m, 1.0).sum(), graph_updates=False)(model)
    assert isinstance(tree, Net)


RULE = nnx.custom_vjp(lambda m, x: m.a * x)
RULE.defvjp(lambda m, x: m.a * x, lambda r, g: None)
BACK = nnx.custom_vjp(lambda m, x: m.a * x)
BACK.defvjp(lambda m, x: (m.a * x, None), lambda r, g: (None, None, None))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: nnx.jvp(step, (m, 1.0), (None,)), "tangents do not fit"),
        (lambda m: nnx.jvp(step, (m, 1.0), ({"c": 1.0}, None)), "which the argument has not"),
        (lambda m: nnx.jvp(step, (m, 1.0), (None, 1.0), has_aux=True), "has_aux=True"),
        (lambda m: nnx.custom_vjp(step)(m, 1.0), "has no rule yet"),
        (lambda m: nnx.custom_vjp(step).defvjp(1, 2, symbolic_zeros=True), "no symbolic zeros"),
        (lambda m: nnx.grad(lambda m: RULE(m, 1.0).sum())(m), "forward rule of custom_vjp returned the wrong thing"),
        (lambda m: nnx.grad(lambda m: BACK(m, 1.0).sum())(m), "a tuple of 2 cotangents"),
        (lambda m: nnx.vmap(step, in_axes="x"), "in_axes of vmap has an entry"),
        (lambda m: nnx.grad(step, argnums=nnx.DiffState(0, ...), graph=False), "a tree is differentiated whole"),
        (lambda m: nnx.scan(step, out_axes=(nnx.Carry, None)), "out_axes of scan"),
        (lambda m: nnx.scan(step, in_axes=(0, 0)), "Carry where in_axes has it"),
        (lambda m: nnx.scan(step, in_axes=(nnx.Carry, nnx.Carry)), "Carry once"),
        (lambda m: nnx.scan(lambda c, x: (c, x, x))(0.0, jnp.ones(2)), "a tuple of 2 parts"),
        (lambda m: nnx.scan(lambda c, x: (m, x))(0.0, jnp.ones(2)), "structure"),
        (lambda m: nnx.scan(lambda c, x: (Net(), x))(nnx.Dict(), jnp.ones(2)), "of another structure out"),
        (lambda m: nnx.scan(lambda m, x: (m, x), in_axes=(0, nnx.Carry), out_axes=(0, nnx.Carry))(1.0), "does not fit"),
        (lambda m: nnx.jit(lambda m: 0, in_shardings=(None, None))(m), "in_shardings does not fit"),
        (lambda m: nnx.vmap(lambda m, x: m.a.set_value(x), in_axes=(None, 0))(m, jnp.ones((2, 2))), "argument 0/a"),
        (lambda m: nnx.vmap(lambda m: 0, in_axes=(nnx.prefix(nnx.Dict(), {}),))(m), "no entry for a variable"),
        (lambda m: nnx.cond(True, lambda m: 1.0, lambda m: (1.0, 2.0), m), "leave different state or results"),
    ],
)
def test_mistakes(call, text):
    with pytest.raises(FxError, match=text):
        call(Net())


@pytest.mark.parametrize("mode", [{}, {"graph_updates": False}, {"graph": False}], ids=str)
def test_axes_by_variable_in_every_mode(mode):
    cell = nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0))
    carry = cell.initialize_carry((4, 2), rngs=nnx.Rngs(1))
    axes = nnx.StateAxes({nnx.Param: None, ...: nnx.Carry})
    loop = nnx.scan(lambda m, c, x: m(c, x), in_axes=(axes, nnx.Carry, 0), out_axes=(nnx.Carry, 0), **mode)
    xs = jax.random.normal(jax.random.key(0), (5, 4, 2))
    last, ys = loop(cell, carry, xs)
    want = carry
    for x, y in zip(xs, ys):
        want, out = cell(want, x)
        np.testing.assert_allclose(y, out, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(last[0], want[0], rtol=1e-5, atol=1e-6)
    stacked = nnx.vmap(lambda key: nnx.Linear(2, 2, rngs=nnx.Rngs(key)))(jax.random.split(jax.random.key(0), 3))
    each = nnx.StateAxes({nnx.PathContains("kernel"): 0, ...: 0})
    mapped = nnx.vmap(lambda m, x: m(x), in_axes=(each, None), **mode)(stacked, jnp.ones((1, 2)))
    assert mapped.shape == (3, 1, 2)
    with nnx.set_graph_updates(bool(mode) is False):
        assert nnx.RNN(cell)(jnp.ones((4, 5, 2))).shape == (4, 5, 3)


def test_steps_of_a_scan_that_share_a_stream_draw_the_same_keys():
    rngs = nnx.Rngs(params=jax.random.split(jax.random.key(0), 3), dropout=1)
    axes = nnx.StateAxes({"params": 0, ...: None})

    def step(_, rngs):
        return (), (jax.random.key_data(rngs.params()), jax.random.key_data(rngs.dropout()))

    _, (params, dropout) = nnx.scan(step, in_axes=(nnx.Carry, axes), length=3)((), rngs)
    assert len({tuple(key.tolist()) for key in params}) == 3
    first = jax.random.key_data(nnx.Rngs(dropout=1).dropout()).tolist()
    assert dropout.tolist() == [first] * 3
    assert rngs.params.count[...].tolist() == [1, 1, 1]
    assert rngs.dropout.count[...] == 0

    def reseed(_, rngs):
        rngs.dropout.key[...] = rngs.params()
        return (), None

    with pytest.raises(BroadcastVariableError, match="dropout/key"):
        nnx.scan(reseed, in_axes=(nnx.Carry, axes), length=3)((), rngs)


@pytest.mark.parametrize("options", [{}, {"graph_updates": False}, {"graph": False}])
def test_a_model_from_outside_is_no_result(options):
    outer = nnx.Dict(a=nnx.Variable(jnp.arange(4)))
    calls = (
        lambda: nnx.vmap(lambda x: outer, **options)(jnp.zeros(4)),
        lambda: nnx.vmap(lambda x: outer, out_axes=None, **options)(jnp.zeros(4)),
        lambda: nnx.jit(lambda x: [outer.a], **options)(jnp.zeros(4)),
        lambda: nnx.scan(lambda c, x: (c, outer), **options)(0.0, jnp.zeros(4)),
        lambda: nnx.grad(lambda x: (x, outer), has_aux=True, **options)(1.0),
    )
    for call in calls:
        with pytest.raises(NnxError, match="a model from outside of it"):
            call()
    made = nnx.jit(lambda x: nnx.clone(outer), **options)(jnp.zeros(4))
    np.testing.assert_array_equal(made.a[...], jnp.arange(4))


@pytest.mark.parametrize("transform", [nnx.remat, lambda f: lambda m: nnx.checkify(f)(m)[1]], ids=["remat", "checkify"])
def test_constants_come_out_as_arrays(transform):
    def fill(model):
        model.w[...], model.new = jnp.array([1.0, 2.0]), nnx.Cache(np.ones(2, np.int32))
        return jnp.asarray(2.0)

    model = nnx.Dict(w=nnx.Param(jnp.zeros(2)))
    values = transform(fill)(model), model.w.get_raw_value(), model.new.get_raw_value()
    assert all(isinstance(value, jax.Array) for value in values)
    assert [value.dtype for value in values] == [jnp.float32, jnp.float32, jnp.int32]
    model.w[...] += 1.0
    transform(fill)(model)
    assert model.w[...].tolist() == [1, 2]


def test_shard_map_pmap_and_checkify_on_one_device():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = (nnx.StateSharding({nnx.Param: PartitionSpec("x"), ...: PartitionSpec()}), PartitionSpec("x"))
    model = Net()
    out = nnx.shard_map(step, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("x"))(model, jnp.ones(2))
    np.testing.assert_allclose(out, 1.0)
    out = nnx.pmap(step, in_axes=(None, 0))(model, jnp.ones((1, 2)))
    np.testing.assert_allclose(out, [[2.0, 2.0]])
    assert float(model.count[...]) == 2

    def checked(model, x):
        checkify.check(x > 0, "negative")
        return step(model, x)

    error, out = nnx.jit(nnx.checkify(checked))(model, -1.0)
    assert "negative" in error.get()
    assert float(model.count[...]) == 3


def test_pmap_takes_the_devices_of_a_backend():
    np.testing.assert_array_equal(nnx.pmap(lambda x: x + 1, backend="cpu")(jnp.ones(1)), [2.0])
    with pytest.raises(RuntimeError, match="nowhere"):
        nnx.pmap(lambda x: x, backend="nowhere")(jnp.ones(1))
