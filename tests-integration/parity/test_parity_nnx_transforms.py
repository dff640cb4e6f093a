"""Transforms of modules do what those of Flax NNX do: programs that only differ in the import."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

LIBRARIES = ("fx_nnx", "flax.nnx")


def leaves(tree):
    return [
        np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(tree)
    ]


def network(nnx, width=4):
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(width, width, rngs=rngs)
            self.norm = nnx.BatchNorm(width, rngs=rngs)
            self.drop = nnx.Dropout(0.3, rngs=rngs)

        def __call__(self, x):
            return self.drop(nnx.relu(self.norm(self.linear(x))))

    return Block


def train(nnx, options):
    model = network(nnx)(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        def loss(model):
            return (model(x) ** 2).mean()

        value, grads = nnx.value_and_grad(loss, **options)(model)
        optimizer.update(model, grads)
        return value

    x = jnp.arange(12.0).reshape(3, 4) / 10
    values = [step(model, optimizer, x) for _ in range(3)]
    return values, leaves(nnx.state(model)), leaves(nnx.state(optimizer))


def layers_by_scan(nnx, jitted):
    Block = network(nnx)

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(rngs):
        return Block(rngs)

    model = make(nnx.Rngs(0))
    axes = nnx.StateAxes({nnx.Param: 0, nnx.BatchStat: 0, ...: nnx.Carry} if jitted else {...: 0})
    if jitted:
        model = nnx.clone(model)
        nnx.reseed(model, default=3, policy="match_shape")
        axes = nnx.StateAxes({...: 0})

    @nnx.scan(in_axes=(axes, nnx.Carry), out_axes=(nnx.Carry, 0))
    def run(block, x):
        y = block(x)
        return y, y.sum()

    run = nnx.jit(run) if jitted else run
    out = run(model, jnp.ones((3, 4)))
    return leaves(out), leaves(nnx.state(model))


def ensemble(nnx, axis):
    @nnx.vmap(in_axes=0, out_axes=nnx.StateAxes({nnx.Param: axis, ...: 0}))
    def make(key):
        return network(nnx)(nnx.Rngs(key))

    models = make(jax.random.split(jax.random.key(0), 2))
    call = nnx.vmap(lambda m, x: m(x), in_axes=(nnx.StateAxes({nnx.Param: axis, ...: 0}), None))
    out = call(models, jnp.ones((3, 4)))
    return leaves(out), leaves(nnx.state(models))


def conditional(nnx, index):
    model = network(nnx)(nnx.Rngs(0))

    def calm(model, x):
        return x

    out = [
        nnx.cond(index > 0, lambda m, x: m(x), calm, model, jnp.ones((3, 4))),
        nnx.switch(index, [calm, lambda m, x: m(x), lambda m, x: m(m(x))], model, jnp.ones((3, 4))),
    ]
    return leaves(out), leaves(nnx.state(model))


def loops(nnx, steps):
    model = network(nnx)(nnx.Rngs(0))
    x = jnp.ones((3, 4))
    _, a = nnx.fori_loop(0, steps, lambda i, s: (s[0], s[0](s[1]) + i), (model, x))
    _, b, _ = nnx.while_loop(lambda s: s[2] < steps, lambda s: (s[0], s[0](s[1]), s[2] + 1), (model, x, 0))
    return leaves((a, b)), leaves(nnx.state(model))


def derivatives(nnx, argnums):
    model = network(nnx)(nnx.Rngs(0))
    wanted = {
        "param": 0,
        "both": (0, 1),
        "stats": nnx.DiffState(0, nnx.BatchStat),
        "filter": nnx.DiffState(0, nnx.PathContains("kernel")),
    }
    x = jnp.arange(12.0).reshape(3, 4)
    f = nnx.remat(lambda m, x: (m(x) ** 2).sum())
    out = nnx.grad(lambda m, x: (f(m, x), x), argnums=wanted[argnums], has_aux=True)(model, x)
    return leaves(out), leaves(nnx.state(model))


def of_trees(nnx, graph):
    model = network(nnx)(nnx.Rngs(0))
    options = {"graph": graph, "graph_updates": False}
    x = jnp.ones((3, 4))
    out, backward = nnx.vjp(lambda m, x: m(x), model, x, **options)
    _, moved = nnx.jvp(lambda m, x: m(x), (model.linear, x), (model.linear, x), **options)
    total = nnx.jit(nnx.scan(lambda m, x: m(x), in_axes=(None, 0), out_axes=0, **options), **options)(model, x[None])
    return leaves((out, moved, total)), leaves(nnx.state(model)), leaves(backward(out)[1])


def rule(nnx, weight):
    model = network(nnx)(nnx.Rngs(0))

    @nnx.custom_vjp
    def f(model, x):
        return model(x)

    def forward(model, x):
        return f(model, x), (model, x)

    def backward(residuals, g):
        (changes, _), out = g
        return jax.tree.map(lambda c: c if c.dtype == jax.dtypes.float0 else c * weight, changes), out * weight

    f.defvjp(forward, backward)
    g = nnx.grad(
        lambda m, x: (f(m, x) ** 2).sum() + (m.norm.mean**2).sum(),
        argnums=(nnx.DiffState(0, nnx.Any(nnx.Param, nnx.BatchStat)), 1),
    )
    return leaves(g(model, jnp.ones((3, 4)))), leaves(nnx.state(model))


def structure(nnx, again):
    class Counter(nnx.Module):
        def __init__(self):
            self.w, self.calls = nnx.Param(jnp.ones(2)), 0

    @nnx.jit
    def f(model, other):
        model.calls += 1
        model.extra = nnx.Cache(model.w * model.calls)
        model.other = other
        other.w = model.w
        return model.extra, other

    model, other = Counter(), Counter()
    for _ in range(again):
        extra, same = f(model, other)
    facts = [model.calls, extra is model.extra, same is other, model.other is other, other.w is model.w]
    return [np.array(facts)], leaves(nnx.state((model, other)))


def shapes(nnx, batch):
    model = nnx.eval_shape(lambda: network(nnx)(nnx.Rngs(0)))
    out = nnx.eval_shape(lambda m, x: m(x), network(nnx)(nnx.Rngs(0)), jnp.ones((batch, 4)))
    return [
        np.array([x.shape for x in jax.tree.leaves(nnx.state(model, nnx.Param))], dtype=object).sum(),
        np.array(out.shape),
    ], []


CASES = [
    *((train, options) for options in ({}, {"argnums": 0}, {"allow_int": True})),
    *((layers_by_scan, jitted) for jitted in (False, True)),
    *((ensemble, axis) for axis in (0, 1, -1)),
    *((conditional, index) for index in range(3)),
    *((loops, steps) for steps in (0, 1, 3)),
    *((derivatives, argnums) for argnums in ("param", "both", "stats", "filter")),
    *((of_trees, graph) for graph in (True, False)),
    *((rule, weight) for weight in (1.0, 2.0)),
    *((structure, again) for again in (1, 2, 3)),
    *((shapes, batch) for batch in (1, 5)),
]


@pytest.mark.parametrize(("program", "option"), CASES)
def test_programs_give_the_same_after_a_change_of_imports(program, option):
    ours, theirs = (program(importlib.import_module(library), option) for library in LIBRARIES)
    for mine, reference in zip(ours, theirs, strict=True):
        assert len(mine) == len(reference)
        for a, b in zip(mine, reference):
            np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("options", [{}, {"graph_updates": False}], ids=["updates", "values"])
def test_derivatives_of_what_is_met_again_in_a_tree(options):
    def found(nnx):
        w, layer = nnx.Param(jnp.array(3.0)), nnx.Linear(1, 1, rngs=nnx.Rngs(0))
        layer.kernel.set_value(jnp.ones((1, 1)))
        tree = {"a": [w], "again": w, "layer": layer, "same": layer}
        f = lambda tree: tree["a"][0] * tree["again"] + 2 * tree["same"].kernel.sum()  # noqa: E731
        grads = nnx.grad(f, graph=True, **options)(tree)
        leaves = {jax.tree_util.keystr(path): float(x.sum()) for path, x in jax.tree.leaves_with_path(grads)}
        return leaves, {name: type(value).__name__ for name, value in grads.items()}, grads["same"] is grads["layer"]

    fx, flax = (found(importlib.import_module(name)) for name in LIBRARIES)
    assert fx == flax


@pytest.mark.parametrize("updates", [True, False])
def test_custom_rules_refuse_a_variable_with_and_without_a_derivative(updates):
    for nnx in map(importlib.import_module, LIBRARIES):
        rule = nnx.custom_vjp(lambda a, b: a[...] * b[...], nondiff_argnums=(1,), graph=True, graph_updates=updates)
        rule.defvjp(lambda a, b: (a[...] * b[...], ()), lambda *_: (None,))
        w = nnx.Param(jnp.array(3.0))
        with pytest.raises(ValueError, match=r"(?i)alias|duplicate|twice"):
            rule(w, w)
