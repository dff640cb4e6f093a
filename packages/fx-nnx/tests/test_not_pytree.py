"""Modules with ``pytree=False``: attributes hold anything, at any time, in plain containers too."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_nnx.errors import NnxError

FIRST = {
    "none": lambda: None,
    "number": lambda: 0,
    "text": lambda: "s",
    "tuple": lambda: (),
    "list": list,
    "dict": dict,
    "array": lambda: jnp.ones(2),
    "function": lambda: len,
}
LATER = {
    "variable": (lambda: nnx.Param(jnp.ones(2)), [("a",)]),
    "module": (lambda: nnx.Linear(2, 2, rngs=nnx.Rngs(0)), [("a", "bias"), ("a", "kernel")]),
    "List": (lambda: nnx.List([nnx.Param(jnp.ones(2))]), [("a", 0)]),
    "list": (lambda: [1, "b", nnx.Param(jnp.ones(2)), {"c": jnp.ones(1)}], [("a", 2), ("a", 3, "c")]),
    "dict": (lambda: {"b": nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))}, [("a", "b", "kernel")]),
    "tuple": (lambda: (nnx.Param(jnp.ones(2)),), [("a", 0)]),
    "array": (lambda: jnp.ones(3), [("a",)]),
    "numpy": (lambda: np.ones(3), [("a",)]),
    "number": (lambda: 5, []),
    "static list": (lambda: [5, {"b": 6}], []),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("later", LATER)
def test_what_an_attribute_is_depends_on_its_value(first, later):
    class Holder(nnx.Module, pytree=False):
        def __init__(self):
            self.a = FIRST[first]()

    value, paths = LATER[later]
    holder = Holder()
    nnx.graphdef(holder)  # what is known of the structure now has to be forgotten
    holder.a = value()
    assert nnx.to_flat_state(nnx.state(holder)).paths == tuple(paths)
    for copy in (nnx.merge(*nnx.split(holder)), nnx.clone(holder), nnx.jit(lambda h: h)(holder)):
        assert type(copy) is Holder
        assert nnx.to_flat_state(nnx.state(copy)).paths == tuple(paths)
        assert nnx.graphdef(copy) == nnx.graphdef(holder)


class Plain(nnx.Module, pytree=False):
    def __init__(self):
        self.layers = [nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(2)]
        self.table = {"w": nnx.Param(jnp.ones((1, 2))), "sizes": {"n": 3}}
        self.pair = (nnx.Param(jnp.ones((1, 2))), 7)
        self.arrays = [jnp.ones((1, 2))]
        self.later = []

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        x = x * self.table["w"] * self.pair[0] + self.arrays[0]
        return sum((x + v for v in self.later), x).sum()


def test_training_moves_everything():
    x = jnp.ones((1, 2))
    model = Plain()
    model.later.append(nnx.Param(jnp.zeros((1, 2))))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda m: m(x))(model)
        optimizer.update(model, grads)
        return grads

    grads = nnx.to_pure_dict(step(model, optimizer))
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert jax.tree.structure(grads) == jax.tree.structure(before)
    assert len(jax.tree.leaves(grads)) == 7
    jax.tree.map(lambda a, b, g: np.testing.assert_allclose(a - 0.1 * g, b, rtol=1e-6), before, after, grads)
    assert all(np.any(g != 0) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize("pytree", [False, True])
def test_bare_arrays_are_trained_where_a_filter_chooses_them(pytree):
    class Mixed(nnx.Module, pytree=pytree):
        def __init__(self):
            self.w = nnx.data([jnp.ones(2), nnx.Param(jnp.full(2, 3.0))])
            self.v = jnp.ones(2)

    def loss(m):
        return (m.w[0] * m.w[1] * m.v).sum()

    model = Mixed()
    grads = nnx.grad(loss, argnums=nnx.DiffState(0, ...))(model)
    assert jax.tree.map(lambda g: float(g[0]), nnx.to_pure_dict(grads)) == {"v": 3.0, "w": {0: 3.0, 1: 1.0}}
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=...)
    optimizer.update(model, grads)
    assert (float(model.v[0]), float(model.w[0][0]), float(model.w[1][0])) == (-0.5, -0.5, 2.5)
    assert nnx.to_flat_state(nnx.grad(loss)(model)).paths == (("w", 1),)


def test_containers_that_change_are_seen_by_compiled_functions():
    model, x = Plain(), jnp.ones((1, 2))
    f = nnx.jit(lambda m: m(x))
    for change in (
        lambda: model.later.append(nnx.Param(jnp.ones((1, 2)))),
        lambda: model.arrays.__setitem__(0, jnp.full((1, 2), 5.0)),
        lambda: model.table.__setitem__("w", nnx.Param(jnp.zeros((1, 2)))),
        lambda: model.layers.pop(),
    ):
        change()
        np.testing.assert_allclose(f(model), model(x), rtol=1e-6)


def test_changes_inside_a_transform_come_out():
    @nnx.jit
    def change(m):
        m.later.append(nnx.Param(jnp.ones(1)))
        m.table["sizes"]["n"] = 4
        m.arrays[0] = m.arrays[0] + 1
        m.best = nnx.Param(jnp.ones(3))

    model = Plain()
    change(model)
    assert len(model.later) == 1
    assert model.table["sizes"] == {"n": 4}
    assert model.best.shape == (3,)
    np.testing.assert_array_equal(model.arrays[0], [[2, 2]])


def test_transforms_that_make_and_map():
    model = nnx.vmap(lambda key: Plain(), axis_size=3)(jax.random.split(jax.random.key(0), 3))
    assert model.layers[0].kernel.shape == (3, 2, 2)
    assert model.arrays[0].shape == (3, 1, 2)
    one = nnx.eval_shape(Plain)
    assert one.table["w"].get_value().shape == (1, 2)


def test_objects_are_no_pytrees():
    class Table(nnx.Object):
        def __init__(self):
            self.best = None
            self.rows = []

    table = Table()
    table.best = nnx.Param(jnp.ones(1))
    table.rows.append(nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0)))
    assert nnx.to_flat_state(nnx.state(table)).paths == (("best",), ("rows", 0, "kernel"))
    assert jax.tree.leaves(table) == [table]
    assert issubclass(nnx.Object, nnx.Pytree)
    assert not issubclass(nnx.Module, nnx.Object)
    assert nnx.to_flat_state(nnx.state(nnx.Dict(t=table))).paths == (("t", "best"), ("t", "rows", 0, "kernel"))


def test_pytrees_go_on_refusing():
    class Holder(nnx.Module):
        def __init__(self):
            self.a = None

    with pytest.raises(NnxError, match="Holder"):
        Holder().a = nnx.Param(jnp.ones(1))


def test_declarations_hold():
    model = Plain()
    model.sizes = nnx.static([1, 2])
    assert not nnx.to_flat_state(nnx.state(model, lambda path, _: path[0] == "sizes")).paths
    assert nnx.clone(model).sizes == [1, 2]
