"""Models as trees, ``graph=False``: what is a leaf, in which order, and what is refused."""

import collections
import dataclasses

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_nnx.errors import NnxError, SharedReferenceError
from fx_transforms.errors import TransformError

Point = collections.namedtuple("Point", ["y", "x"])


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Pair:
    z: object
    a: object


class Plain(nnx.Module, pytree=False):
    def __init__(self):
        self.w = nnx.Param(jnp.ones(2))

    def __call__(self, x):
        return x * self.w[...]


class Holder(nnx.Module):
    def __init__(self):
        self.inner = Plain()


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("leaf", [1, 1.5, "text", np.float32(2), None, jnp.ones(2)])
def test_a_leaf_alone_is_its_own_state(leaf, graph):
    graphdef, state = nnx.split(leaf, graph=graph)
    assert nnx.merge(graphdef, state) is leaf
    assert nnx.merge(*nnx.flatten(leaf, graph=graph)) is leaf
    assert nnx.clone(leaf, graph=graph) is leaf


def test_what_has_no_state_at_all_is_refused():
    with pytest.raises(NnxError, match="got: object"):
        nnx.split(object())


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize(
    "make", [lambda first, second: Point(y=second, x=first), lambda first, second: Pair(z=second, a=first)]
)
def test_fields_are_in_the_order_of_their_names(make, graph):
    model = make(nnx.Param(1.0), nnx.Param(2.0))
    graphdef, flat = nnx.flatten(model, graph=graph)
    assert [leaf.get_value() for leaf in flat.leaves] == [1.0, 2.0]
    assert flat.paths == tuple(sorted(flat.paths))
    made = nnx.merge(graphdef, nnx.state(model, graph=graph))
    assert [v.get_value() for v in jax.tree.leaves(made, is_leaf=lambda x: isinstance(x, nnx.Param))] == [2.0, 1.0]
    assert [path for path, _ in nnx.iter_graph(model, graph=graph)][:-1] == list(flat.paths)


def test_fields_keep_their_places_in_transforms_and_maps():
    model = nnx.Dict(p=nnx.data(Point(y=nnx.Param(jnp.ones(1)), x=nnx.Param(jnp.zeros(1)))))

    @nnx.jit
    def step(model):
        model.p.y[...] += 1
        return model

    out = step(model)
    assert out.p.y[0] == 2
    assert model.p.y[0] == 2
    assert model.p.x[0] == 0
    copied = nnx.recursive_map(lambda path, x: x, model)
    assert copied.p.y[0] == 2
    assert nnx.clone(model).p.y[0] == 2
    assert nnx.map(lambda path, v: path[-1], model).p.y.get_value() == "y"


def test_numbers_in_containers_are_leaves_of_trees_only():
    model = {"b": [nnx.Param(1), jnp.array(2)], "a": (nnx.Param(3), 4, "text", None)}
    assert [path for path, _ in nnx.flatten(model)[1]] == [("a", 0), ("b", 0), ("b", 1)]
    graphdef, flat = nnx.flatten(model, graph=False)
    assert flat.paths == (("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1))
    made = nnx.unflatten(graphdef, flat)
    assert made["a"][1:] == (4, "text", None)
    assert nnx.map(lambda path, x: 7, model, graph=False)["a"][1] == 7


def test_objects_that_are_no_pytrees_are_no_parts_of_trees():
    def refuses(f, place):
        with pytest.raises(NnxError, match=f"Plain has pytree=False(?s:.*)where: {place}\n"):
            f()

    model = Holder()
    refuses(lambda: nnx.split(Plain(), graph=False), "/")
    for function in (nnx.split, nnx.state, nnx.clone, nnx.graphdef):
        refuses(lambda f=function: f(model, graph=False), "/inner")
    refuses(lambda: list(nnx.iter_graph(model, graph=False)), "/inner")
    refuses(lambda: nnx.recursive_map(lambda path, x: x, model, graph=False), "/inner")
    refuses(lambda: list(nnx.iter_children(Plain(), graph=False)), "/")
    refuses(lambda: nnx.jit(lambda m: m.inner(1.0), graph=False)(model), "argument 0/inner")
    np.testing.assert_array_equal(nnx.jit(lambda m: m.inner(3.0))(model), [3.0, 3.0])


def test_a_reference_to_memory_is_in_a_tree_once():
    ref = jax.new_ref(jnp.ones(1))
    with pytest.raises(SharedReferenceError, match="at /0 and /1"):
        nnx.split([ref, ref], graph=False)


@pytest.mark.parametrize("graph", [True, False])
def test_bare_values_take_the_places_of_variables_where_asked(graph):
    model = nnx.Rngs(0)
    assert nnx.map(lambda path, x: 0, model, graph=graph).default.count.get_value() == 0
    bare = nnx.map(lambda path, x: 0, model, graph=graph, recreate_variables=False)
    assert bare.default.count == 0
    assert not isinstance(bare.default.count, nnx.Variable)
    graphdef, state = nnx.split(model, graph=graph)
    values = nnx.as_pure(state)
    assert not isinstance(nnx.merge(graphdef, values, recreate_variables=False).default.key, nnx.Variable)
    assert isinstance(nnx.merge(graphdef, values).default.key, nnx.RngKey)
    kept = nnx.merge(graphdef, state, recreate_variables=False).default
    assert kept.key is model.default.key
    flat = nnx.flatten(model)[1]
    bare = nnx.unflatten(graphdef, [1, 2], index_ref={}, recreate_variables=False)
    assert bare.default.count == 1
    assert len(flat) == 2


def test_a_variable_of_two_arguments_has_an_entry_in_each():
    shared = nnx.Param(jnp.ones((2, 2)))
    models = nnx.Dict(w=shared), nnx.Dict(w=shared)
    axes = nnx.prefix(models, lambda path, v: path[0])
    assert (axes[0].w, axes[1].w) == (0, 1)
    for kwargs in ({}, {"graph_updates": False}):
        with pytest.raises(TransformError, match="with 0 and argument 1/w with 1"):
            nnx.vmap(lambda a, b: a.w.sum(), in_axes=axes, **kwargs)(*models)
    same = nnx.prefix(models, {...: 0})
    np.testing.assert_array_equal(nnx.vmap(lambda a, b: a.w.sum(), in_axes=same)(*models), [2.0, 2.0])


def test_what_is_on_two_paths_of_a_model_has_one_entry():
    shared = nnx.Param(1)
    model = nnx.Dict(a=nnx.Dict(w=shared), b=nnx.Dict(w=shared))
    assert nnx.prefix(model, {...: 0}).b.w == 0
    with pytest.raises(TransformError, match="/a/w with 0 and /b/w with 1"):
        nnx.prefix(model, lambda path, v: 0 if path[0] == "a" else 1)


def test_a_shared_object_has_the_same_entries_on_each_path():
    inner = nnx.Dict(w=nnx.Param(1))
    model = nnx.Dict(a=inner, b=inner)
    axes = nnx.prefix(model, {...: 0})
    assert axes.a is axes.b
    with pytest.raises(TransformError, match="/a/w with 0 and /b/w with 1"):
        nnx.prefix(model, lambda path, v: 0 if path[0] == "a" else 1)


def test_paths_of_packed_states_are_those_of_states():
    model = nnx.Dict(b=nnx.Param(jnp.ones(1)), a=nnx.Dict(c=nnx.Param(jnp.zeros(1))))
    packed, state = nnx.unpack(model), nnx.state(model)
    assert [p for p, _ in jax.tree_util.tree_leaves_with_path(packed)] == [
        p for p, _ in jax.tree_util.tree_leaves_with_path(state)
    ]
    doubled = jax.tree.map(lambda x: x + 1, packed)
    assert nnx.merge(doubled).b[0] == 2
    assert nnx.merge(doubled).a.c[0] == 1
    assert nnx.merge(jax.tree.map(lambda x: x, nnx.unpack(nnx.Param(3)))).get_value() == 3


@pytest.mark.parametrize("graph", [True, False])
def test_what_is_new_gets_an_entry_by_the_rules_of_the_prefix(graph):
    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(2))

        def step(self, x):
            self.sow(nnx.Intermediate, "seen", x)
            return x + self.w

    model = Model()

    def run(x):
        axes = nnx.prefix(model, {nnx.Intermediate: 0, ...: None}, graph=graph)
        return nnx.scan(
            Model.step, in_axes=(axes, nnx.Carry), out_axes=nnx.Carry, length=3, graph=graph, graph_updates=False
        )(model, x)

    out, sown = nnx.capture(lambda model, x: run(x), nnx.Intermediate)(model, jnp.zeros(2))
    np.testing.assert_array_equal(out, [3.0, 3.0])
    np.testing.assert_array_equal(sown["seen"][0][:, 0], [0.0, 1.0, 2.0])
