"""custom_vjp: cotangents of what is in the result, and arguments without cotangents."""

import functools

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import ArgumentTypeError, NnxError, PrefixError
from fx_transforms.errors import TransformError

MODES = [{}, {"graph_updates": False}, {"graph": False}]


class Pair(nnx.Module):
    def __init__(self, x, y):
        self.x, self.y = nnx.Param(x), nnx.Param(y)
        self.table = jnp.array(0.0)


def total(out):
    leaves = [out] if isinstance(out, nnx.Module | nnx.Variable) else jax.tree.leaves(out, is_leaf=nnx.is_data)
    values = []
    for leaf in leaves:
        values += jax.tree.leaves(nnx.state(leaf) if isinstance(leaf, nnx.Module) else leaf)
    return sum((n + 1) * value for n, value in enumerate(values))


RESULTS = {
    "array": (lambda x: 2 * x, lambda g: g),
    "variable": (lambda x: nnx.Param(2 * x), lambda g: g[...]),
    "module": (lambda x: Pair(x, 3 * x), lambda g: g.x + 10 * g.y),
    "tuple": (lambda x: (x, Pair(x, x)), lambda g: g[0] + 10 * g[1].x + 100 * g[1].y),
    "dict": (lambda x: {"m": Pair(x, x), "v": nnx.BatchStat(x)}, lambda g: g["m"].x + 10 * g["v"][...]),
    "bare array in a module": (lambda x: with_table(x), lambda g: g.table),
}
WANT = {"array": 1, "variable": 1, "module": 2 + 30, "tuple": 1 + 30 + 400, "dict": 2 + 40, "bare array in a module": 1}


def with_table(x):
    made = Pair(x, x)
    made.table = x
    return made


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("compiled", [False, True])
def test_cotangents_of_the_result_reach_the_rule(compiled, result, mode):
    fun, read = RESULTS[result]
    f = nnx.custom_vjp(fun, **mode)
    f.defvjp(lambda x: (f(x), None), lambda _, g: (jnp.asarray(read(g)) * 1.0,))
    grad = nnx.grad(lambda x: total(f(x)), **mode)
    got = (nnx.jit(grad) if compiled else grad)(jnp.array(2.0))
    assert float(got) == WANT[result]


@pytest.mark.parametrize("compiled", [False, True])
def test_cotangents_of_new_parts_next_to_arguments(compiled):
    seen = []

    @nnx.custom_vjp
    def f(model, x):
        model.x[...] *= 2
        return Pair(model.y * x, x), model.x * x

    def backward(residuals, g):
        (changed, nothing), (made, out) = g
        seen.append(nothing)
        return {"x": changed["x"][...] + out, "y": made["x"][...]}, made["y"][...]

    f.defvjp(lambda model, x: (f(model, x), None), backward)

    def loss(model, x):
        made, out = f(model, x)
        return 2 * made.x + 3 * made.y + 5 * out + 7 * model.x

    model = Pair(jnp.array(1.0), jnp.array(1.0))
    grad = nnx.grad(loss, argnums=(0, 1))
    of_model, of_x = (nnx.jit(grad) if compiled else grad)(model, jnp.array(1.0))
    assert (float(of_model.x[...]), float(of_model.y[...]), float(of_x)) == (12.0, 2.0, 3.0)
    assert seen[0] is None
    assert float(model.x[...]) == 2.0


def test_an_argument_that_is_returned_goes_through_the_rule():
    @nnx.custom_vjp
    def scale_gradients(model):
        return model

    scale_gradients.defvjp(
        lambda model: (scale_gradients(model), None), lambda _, g: (jax.tree.map(lambda g: 10 * g, g[0][0]),)
    )

    def loss(model):
        same = scale_gradients(model)
        assert same is model
        return 2 * same.x + 3 * same.y

    grads = nnx.grad(loss)(Pair(jnp.array(1.0), jnp.array(1.0)))
    assert (float(grads.x[...]), float(grads.y[...])) == (20.0, 30.0)


def test_changes_of_bare_arrays_do_not_shift_the_others():
    @nnx.custom_vjp
    def f(model):
        model.table = model.table + 1
        model.y[...] *= 2
        return model.x * 1.0

    f.defvjp(lambda model: (f(model), None), lambda _, g: ({"x": g[1], "y": g[0][0]["y"][...]},))

    def loss(model):
        return f(model) + 5 * model.y + 11 * model.table

    grads = nnx.grad(loss)(Pair(jnp.array(1.0), jnp.array(1.0)))
    assert (float(grads.x[...]), float(grads.y[...])) == (1.0, 5.0)


@pytest.mark.parametrize("mode", MODES[1:], ids=str)
def test_changes_of_trees_are_given_by_name(mode):
    @nnx.custom_vjp(**mode)
    def f(model):
        model.x[...] += 1
        return model.x * model.y

    def backward(model, g, updates_g):
        (changed,) = updates_g
        assert changed.y is None
        cotangent = nnx.clone(model)
        cotangent.x[...], cotangent.y[...] = g * model.y + changed.x, g * model.x
        return (cotangent,)

    f.defvjp(lambda model: (f(model), model), backward)
    grads = nnx.grad(lambda model: f(model) + 10 * model.x, **mode)(Pair(jnp.array(1.0), jnp.array(3.0)))
    assert (float(grads.x[...]), float(grads.y[...])) == (13.0, 2.0)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("compiled", [False, True])
def test_modules_and_arrays_without_cotangents(compiled, mode):
    @nnx.custom_vjp(nondiff_argnums=(0, 2, 3), **mode)
    def f(name, model, stats, table):
        assert name == "a"
        stats[...] += 1
        return model.x * table

    def backward(name, stats, table, residuals, g):
        out = g[1] if not mode else g
        assert name == "a"
        return ({"x": out * table * stats[...]},)

    f.defvjp(lambda name, model, stats, table: (f(name, model, stats, table), None), backward)
    model, stats = Pair(jnp.array(1.0), jnp.array(1.0)), nnx.BatchStat(jnp.array(1.0))
    grad = nnx.grad(lambda model, stats, table: f("a", model, stats, table), **mode)
    grads = (nnx.jit(grad) if compiled else grad)(model, stats, jnp.array(5.0))
    assert float(grads.x[...]) == 10.0
    assert float(stats[...]) == 2.0


def test_parts_of_an_argument():
    @nnx.custom_vjp(nondiff_argnums=(nnx.DiffState(0, nnx.PathContains("x")),))
    def f(model):
        return jnp.sin(model.x) * model.y

    def backward(residuals, g):
        (changes,), out = g
        cosine, y = residuals
        changes["x"][...] = cosine * out * y
        if not keep:
            del changes["y"]
        return (changes,)

    f.defvjp(lambda model: (f(model), (jnp.cos(model.x), model.y[...])), backward)
    model, keep = Pair(jnp.array(1.0), jnp.array(2.0)), False
    grads = nnx.grad(f, argnums=nnx.DiffState(0, nnx.PathContains("x")))(model)
    np.testing.assert_allclose(grads["x"][...], np.cos(1.0) * 2, rtol=1e-6)
    keep = True
    with pytest.raises(NnxError, match="cotangent for y, which DiffState"):
        nnx.grad(f)(model)
    for mode in MODES[1:]:
        with pytest.raises(PrefixError, match="nondiff_argnums"):
            nnx.custom_vjp(lambda m: m, nondiff_argnums=(nnx.DiffState(0, nnx.Param),), **mode)


@pytest.mark.parametrize("wrong", [3.0, ({"x": 1.0}, 2.0), {"z": 1.0}])
def test_cotangents_that_an_argument_has_no_place_for(wrong):
    f = nnx.custom_vjp(lambda model: model.x * 1.0)
    f.defvjp(lambda model: (f(model), None), lambda _, g: (wrong,))
    with pytest.raises(NnxError):
        nnx.grad(f)(Pair(jnp.array(1.0), jnp.array(1.0)))


def test_functions_of_arrays_have_rules_like_those_of_jax():
    def fun(x, y):
        return x * y

    rule = (lambda x, y: (x * y, (x, y)), lambda xy, g: (g * xy[1] * 2, g * xy[0] * 3))
    ours, theirs = nnx.custom_vjp(fun), jax.custom_vjp(fun)
    ours.defvjp(*rule)
    theirs.defvjp(*rule)
    args = jnp.array(2.0), jnp.array(5.0)
    assert nnx.grad(ours, argnums=(0, 1))(*args) == jax.grad(theirs, argnums=(0, 1))(*args)
    with pytest.raises(ArgumentTypeError, match="no rule"):
        nnx.custom_vjp(fun)(*args)


@pytest.mark.parametrize("graph", [True, False])
def test_states_as_arguments_with_others_apart(graph):
    model = nnx.Dict(x=nnx.Param(jnp.array(1.0)), y=nnx.Param(jnp.array(2.0)))
    graphdef, state, rest = nnx.split(model, nnx.PathContains("x"), ..., graph=graph)

    @nnx.custom_vjp(nondiff_argnums=(1,), graph=graph, graph_updates=False)
    def f(state, rest):
        model = nnx.merge(graphdef, state, rest)
        return jnp.sin(model.x[...]) * model.y[...]

    def forward(state, rest):
        return f(state, rest), state

    def backward(rest, state, g):
        cotangent = nnx.clone(state)
        cotangent.x[...] = 10 * g * rest.y[...]
        return (cotangent,)

    f.defvjp(forward, backward)
    grads = nnx.grad(f, graph=graph, graph_updates=False)(state, rest)
    assert grads["x"][...] == 20


def test_cotangents_of_what_did_not_change_are_none():
    seen = []

    @nnx.custom_vjp(graph_updates=False)
    def f(model):
        model.n[...] += 1
        return model.x[...] ** 2

    def forward(model):
        return f(model), model

    def backward(model, g, updates_g):
        (changed,) = updates_g
        seen.append((changed.x, type(changed.n)))
        made = nnx.clone(model)
        made.x[...], made.n[...] = 5 * g, 0
        return (made,)

    f.defvjp(forward, backward)
    model = nnx.Dict(x=nnx.Param(jnp.array(3.0)), n=nnx.BatchStat(jnp.array(0.0)))
    grads = nnx.grad(f, graph_updates=False)(model)
    assert seen == [(None, nnx.BatchStat)]
    assert grads.x[...] == 5


@pytest.mark.parametrize("nondiff", [(1,), (nnx.DiffState(1, nnx.Not(nnx.Param)),)], ids=["argument", "variables"])
@pytest.mark.parametrize("whole", [True, False], ids=["module", "variable"])
def test_a_variable_has_a_derivative_or_none(nondiff, whole):
    rule = nnx.custom_vjp(lambda a, b: a.w[...] ** 2 * b.w[...], nondiff_argnums=nondiff)
    rule.defvjp(lambda a, b: (rule(a, b), None), lambda *_: (None,))
    first = nnx.Dict(w=nnx.Param(jnp.array(3.0)))
    second = first if whole else nnx.Dict(w=first.w)
    with pytest.raises(TransformError, match=r"argument 0/w with 'a der[\s\S]*argument 1/w with 'no derivative'"):
        rule(first, second)
    assert rule(first, nnx.clone(second)) == 27.0


class Net(nnx.Module):
    def __init__(self, scale=1.0):
        self.a = nnx.Param(jnp.full(2, scale))
        self.count = nnx.BatchStat(jnp.array(0.0))


def test_custom_vjp_sees_cotangents_of_changes():
    seen = {}

    @functools.partial(nnx.custom_vjp, nondiff_argnums=(1,))
    def f(model, k, x):
        model.count[...] += x.sum()
        return model.a * x * k

    def forward(model, k, x):
        model.count[...] += x.sum()
        return model.a * x * k, (model, x)

    def backward(k, residuals, g):
        (changed, none), out = g
        model, _ = residuals
        seen.update(changed=changed.count[...], none=none, model=type(model))
        return nnx.State({"a": nnx.Param(10 * k * out)}), out * 3

    f.defvjp(forward, backward)

    def loss(model, x):
        return f(model, 2, x).sum() + model.count**2

    model = Net()
    g, gx = nnx.grad(loss, argnums=(nnx.DiffState(0, ...), 1))(model, jnp.ones(2))
    np.testing.assert_allclose(g.a[...], 20.0)
    np.testing.assert_allclose(g.count[...], 0.0)
    np.testing.assert_allclose(gx, 3.0)
    assert seen["none"] is None
    assert seen["model"] is Net
    assert float(model.count[...]) == 2
    np.testing.assert_allclose(f(model, 2, jnp.ones(2)), 2.0)


def test_custom_vjp_of_trees_gets_the_cotangent_alone():
    @nnx.custom_vjp(graph=False)
    def f(model, x):
        return model.a * x

    f.defvjp(lambda m, x: (f(m, x), m), lambda m, g: (jax.tree.map(jnp.ones_like, m), g * 3))
    g, gx = nnx.grad(lambda m, x: f(m, x).sum(), argnums=(0, 1), graph=False)(Net(), jnp.ones(2))
    np.testing.assert_allclose(g.a[...], 1.0)
    np.testing.assert_allclose(gx, 3.0)
