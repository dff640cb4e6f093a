"""What transforms do to modules in arguments and results, against plain Python."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import FxError


class Net(nnx.Module):
    def __init__(self, scale=1.0):
        self.a = nnx.Param(jnp.full(2, scale))
        self.count = nnx.BatchStat(jnp.array(0.0))
        self.mode = "train"


def step(model, x):
    model.count[...] += 1
    return model.a * x + model.count


def test_jit_changes_the_callers_modules():
    plain, compiled = Net(), Net()
    f = nnx.jit(step)
    for x in (jnp.ones(2), jnp.arange(2.0)):
        np.testing.assert_allclose(f(compiled, x), step(plain, x))
    assert float(compiled.count[...]) == float(plain.count[...]) == 2


def test_jit_returns_only_what_changes():
    model = Net()
    before = model.a.get_raw_value()
    f = nnx.jit(step)
    f(model, jnp.ones(2))
    assert model.a.get_raw_value() is before
    shapes = [a.shape for a in jax.tree.leaves(f.lower(model, jnp.ones(2)).out_info)]
    assert shapes == [(), (2,)]


def test_static_changes_come_out_on_cache_hits_too():
    traces = []

    @nnx.jit
    def freeze(model):
        traces.append(1)
        model.mode = "eval"

    for _ in range(2):
        model = Net()
        freeze(model)
        assert model.mode == "eval"
    assert len(traces) == 1


def test_new_variables_shared_references_and_cycles_come_out():
    @nnx.jit
    def grow(model):
        model.b = nnx.Param(jnp.zeros(1))
        model.again = model.a
        model.self = model
        return {"b": model.b, "model": model, "new": Net(2.0)}

    model = Net()
    a = model.a
    out = grow(model)
    assert out["b"] is model.b
    assert out["model"] is model
    assert model.self is model
    assert model.again is a
    assert float(out["new"].a[0]) == 2
    assert grow(model)["model"] is model  # the structure with references goes in as well


def test_objects_shared_between_arguments_are_one_inside():
    @nnx.jit
    def f(pair, *, other):
        pair[0].count[...] += 1
        return pair[0] is other, pair[0].count + other.count

    model = Net()
    same, total = f((model, 1), other=model)
    assert bool(same)
    assert float(total) == 2
    assert float(model.count[...]) == 1


def test_attributes_may_be_removed_and_replaced():
    @nnx.jit
    def f(model):
        del model.mode
        model.a = nnx.Param(model.a * 3)

    model = Net()
    old = model.a
    f(model)
    assert not hasattr(model, "mode")
    assert model.a is not old
    assert float(model.a[0]) == 3


def test_arrays_as_attributes_are_values():
    class Table(nnx.Module):
        def __init__(self):
            self.rows, self.items = jnp.ones(2), nnx.data([jnp.zeros(1)])

    @nnx.jit
    def f(table):
        table.rows = table.rows + 1
        return table.items[0] + table.rows

    table = Table()
    f(table)
    np.testing.assert_allclose(f(table), [3.0, 3.0])


@pytest.mark.parametrize("wrap", [nnx.jit, nnx.remat, lambda f: f])
def test_grad_is_a_state_and_state_changes(wrap):
    def loss(model, x):
        return wrap(step)(model, x).sum(), x

    model = Net()
    (value, aux), (g, gx) = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)(model, jnp.arange(2.0))
    assert float(value) == 3
    assert aux.shape == (2,)
    assert float(model.count[...]) == 1
    assert list(g) == ["a"]
    np.testing.assert_allclose(g.a[...], [0.0, 1.0])
    np.testing.assert_allclose(gx, [1.0, 1.0])
    both = nnx.grad(loss, argnums=nnx.DiffState(0, (nnx.Param, nnx.BatchStat)), has_aux=True)(model, jnp.arange(2.0))
    assert sorted(both[0]) == ["a", "count"]


def test_vmap_over_an_ensemble():
    @nnx.vmap
    def make(scale):
        return Net(scale)

    models = make(jnp.arange(3.0))
    assert models.a.shape == (3, 2)
    axes = nnx.StateAxes({nnx.Param: 0, ...: None})

    @nnx.vmap(in_axes=(axes, None))
    def call(model, x):
        model.extra = nnx.Param(model.a.sum())
        return model.a * x

    models.count = nnx.BatchStat(jnp.array(0.0))
    out = call(models, 2.0)
    np.testing.assert_allclose(out, models.a * 2)
    np.testing.assert_allclose(models.extra[...], [0.0, 2.0, 4.0])


def test_scan_over_layers_with_a_carried_count():
    layers = nnx.vmap(Net)(jnp.array([1.0, 2.0, 3.0]))
    layers.count = nnx.BatchStat(jnp.array(0.0))

    @nnx.scan(in_axes=(nnx.StateAxes({nnx.Param: 0, ...: nnx.Carry}), nnx.Carry), out_axes=(nnx.Carry, 0))
    def run(layer, x):
        y = step(layer, x)
        return y, y.sum()

    y, sums = run(layers, jnp.ones(2))
    want, x = [], jnp.ones(2)
    for i in range(3):
        x = x * (i + 1) + (i + 1)
        want.append(x.sum())
    np.testing.assert_allclose(y, x)
    np.testing.assert_allclose(sums, want)
    assert float(layers.count[...]) == 3


def test_loops_and_branches():
    model = Net()

    def body(i, state):
        model, x = state
        return model, step(model, x)

    same, x = nnx.fori_loop(0, 3, body, (model, jnp.zeros(2)))
    assert same is model
    assert float(model.count[...]) == 3
    np.testing.assert_allclose(x, [6.0, 6.0])
    _, n = nnx.while_loop(lambda s: s[1] < 5, lambda s: (step(s[0], 0.0), (s[0], s[1] + 1))[1], (model, 0))
    assert int(n) == 5
    assert float(model.count[...]) == 8
    before = model.a.get_raw_value()
    y = nnx.cond(False, step, lambda m, x: m.a * x, model, jnp.ones(2))
    np.testing.assert_allclose(y, [1.0, 1.0])
    assert float(model.count[...]) == 8
    assert model.a.get_raw_value() is before
    nnx.switch(1, [lambda m: None, lambda m: m.count.set_value(m.count * 2)], model)
    assert float(model.count[...]) == 16


def test_eval_shape_and_make_jaxpr_leave_arguments_alone():
    model = Net()
    out, other = nnx.eval_shape(lambda m: (step(m, 1.0), m), model)
    assert out.shape == (2,)
    assert other is not model
    assert other.a.shape == (2,)
    assert isinstance(model.a.get_raw_value(), jax.Array)
    assert len(nnx.make_jaxpr(step)(model, 1.0).eqns) > 1
    assert float(model.count[...]) == 0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda m: nnx.vmap(lambda a, b: 0, in_axes=(0, None), out_axes=None)(m, m),
            "argument 0/a with 0 and argument 1/a",
        ),
        (
            lambda m: nnx.vmap(lambda m: m.a, out_axes=None)(nnx.vmap(Net)(jnp.ones(3))),
            "argument 0/a with 0 and result with None",
        ),
        (lambda m: nnx.vmap(lambda m: 0, in_axes=nnx.StateAxes({nnx.Param: 0}))(m), "no entry for a variable"),
        (lambda m: nnx.vmap(lambda m: 0, in_axes=(0, 0))(m), "in_axes of vmap does not fit"),
        (lambda m: nnx.jit(lambda x: step(m, x))(1.0), "Cannot change BatchStat from a different trace level"),
        (lambda m: nnx.jit(lambda m, x: 0, static_argnums=1)(m, []), "static argument 1 of jit is not hashable"),
        (lambda m: nnx.jit(lambda m: m, graph_updates=False)(m), "argument 0/a and result/a"),
        (
            lambda m: nnx.scan(lambda c, m: (c, step(m, c)), in_axes=(nnx.Carry, None), length=2)(1.0, m),
            "written by a step",
        ),
        (lambda m: nnx.grad(lambda m, n: 0.0)(m, m), "grad got the same state twice"),
        (lambda m: nnx.fori_loop(0, 2, lambda i, m: setattr(m, "mode", "x") or m, m), "the structure of modules"),
        (lambda m: nnx.cond(True, lambda m: setattr(m, "mode", "x"), lambda m: None, m), "differ in structure"),
    ],
)
def test_mistakes(call, text):
    with pytest.raises(FxError, match=text):
        call(Net())
