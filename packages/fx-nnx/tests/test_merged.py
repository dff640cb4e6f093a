"""A merged model is known without a walk, and what is known of it is never old."""

import gc
import weakref

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx.graph.record import record_of, walk_graph
from hypothesis import given, settings
from hypothesis import strategies as st

ARRAY = jnp.zeros(1)


class Node(nnx.Module):
    def __init__(self):
        self.value = nnx.Param(ARRAY)
        self.mean = nnx.BatchStat(ARRAY)
        self.static = 0
        self.items = nnx.List([nnx.Param(ARRAY)])
        self.names = nnx.Dict(one=nnx.Cache(ARRAY))


class OtherList(nnx.List):
    pass


def check(root):
    kept, fresh = record_of(root), walk_graph(root)
    assert kept.graphdef == fresh.graphdef
    assert kept.graphdef.numbers == fresh.graphdef.numbers
    assert repr(kept.graphdef.attributes) == repr(fresh.graphdef.attributes)
    assert kept.graphdef.paths == fresh.graphdef.paths
    assert [*map(id, kept.read())] == [*map(id, fresh.read())]
    assert kept.only_variables == fresh.only_variables
    assert kept.trace() == fresh.trace()


def first(node):
    return next(value for _, value in nnx.iter_graph(node) if isinstance(value, nnx.Variable))


def part(node, name):
    return getattr(node, name, None)


def is_list(node):
    return isinstance(part(node, "items"), nnx.List)


EDITS = {
    "nothing": lambda n, o: None,
    "set static": lambda n, o: setattr(n, "static", 1 + (part(n, "static") or 0)),
    "new static": lambda n, o: setattr(n, f"s{len(vars(n))}", None),
    "static without hash": lambda n, o: setattr(n, "sizes", [1]),
    "replace variable": lambda n, o: setattr(n, "value", nnx.Param(ARRAY)),
    "share variable": lambda n, o: setattr(n, "value", first(o)),
    "another type": lambda n, o: setattr(n, "value", nnx.BatchStat(ARRAY)),
    "array": lambda n, o: setattr(n, "array", nnx.data(ARRAY)),
    "value": lambda n, o: first(n).set_value(jnp.ones(1)),
    "metadata": lambda n, o: first(n).set_metadata(tag=str(part(n, "static"))),
    "hook": lambda n, o: first(n).set_metadata(on_set_value=lambda variable, value: value),
    "metadata of all": lambda n, o: nnx.set_metadata(n, level=1),
    "append": lambda n, o: n.items.append(Node()) if is_list(n) else None,
    "append shared": lambda n, o: n.items.append(o) if is_list(n) and o is not n else None,
    "pop item": lambda n, o: n.items.pop() if is_list(n) and len(n.items) else None,
    "list class": lambda n, o: setattr(n.items, "__class__", OtherList) if is_list(n) else None,
    "name": lambda n, o: part(n, "names") and n.names.update(two=nnx.Param(ARRAY)),
    "plain": lambda n, o: setattr(n, "plain", nnx.data([nnx.Param(ARRAY)])),
    "delete": lambda n, o: delattr(n, "value") if hasattr(n, "value") else None,
    "through vars": lambda n, o: vars(n).update(static=7),
    "mode": lambda n, o: n.set_attributes(static=2),
    "pop": lambda n, o: nnx.pop(n, nnx.BatchStat),
    "update": lambda n, o: nnx.update(n, jax.tree.map(lambda x: x + 1, nnx.state(n))),
    "initialize again": lambda n, o: first(n).__init__(ARRAY, again=1),
}
STEP = st.tuples(st.sampled_from(sorted(EDITS)), st.integers(0, 1000), st.integers(0, 1000), st.booleans())


def merged(root, through_jax):
    graphdef, state = nnx.split(root)
    return nnx.merge(graphdef, jax.tree.map(lambda x: x, state) if through_jax else state)


@settings(deadline=None, max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=10))
def test_what_is_known_of_a_merged_model_equals_a_fresh_walk(steps):
    old = root = Node()
    for name, i, j, through_jax in steps:
        nodes = [node for _, node in nnx.iter_graph(root) if type(node) is Node]
        if len(nodes) > 20 or not nnx.state(root):
            break
        node, other = nodes[i % len(nodes)], nodes[j % len(nodes)]
        if nnx.state(node) and nnx.state(other):
            EDITS[name](node, other)
        check(root)
        check(old)
        old, root = root, merged(root, through_jax)
        check(root)
        check(old)
        if name != "nothing" and nnx.state(root):
            first(root).set_metadata(name=name)  # of a variable that both may have
            check(root)
            check(old)


@settings(deadline=None, max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=4), st.integers(0, 3))
def test_what_changes_before_a_new_model_is_first_looked_at_is_seen(steps, way):
    before = Node()
    graphdef, state = nnx.split(before)
    root = (
        nnx.merge(graphdef, state),
        nnx.merge(graphdef, jax.tree.map(lambda x: x, state)),
        nnx.merge(graphdef, nnx.to_pure_dict(state)),
        nnx.clone(before),
    )[way]
    for name, i, j, at_old in steps:
        # Not by `nnx.iter_graph`, which would look at the model.
        parts = [root, before] if at_old else [before, root]
        EDITS[name](parts[i % 2], parts[j % 2])
    check(root)
    check(before)


@pytest.mark.parametrize("through_jax", [False, True])
def test_a_merged_model_splits_into_the_very_definition(through_jax):
    graphdef, state = nnx.split(Node())
    model = nnx.merge(graphdef, jax.tree.map(lambda x: x + 1, state) if through_jax else state)
    again, state = nnx.split(model)
    assert again is graphdef
    assert state["value"] is model.value
    model.static = 1
    assert nnx.split(model)[0] != graphdef
    model.static = 0
    model.mean = nnx.BatchStat(ARRAY)
    assert nnx.state(model)["mean"] is model.mean


def test_a_variable_in_two_places_is_found():
    graphdef, _ = nnx.split(nnx.Dict(a=nnx.Param(ARRAY), b=nnx.Param(ARRAY)))
    shared = nnx.Param(ARRAY)
    model = nnx.merge(graphdef, nnx.State({"a": shared, "b": shared}))
    assert model.a is model.b
    check(model)
    assert nnx.split(model)[0] != graphdef
    assert list(nnx.state(model)) == ["a"]


@pytest.mark.parametrize("other", [nnx.BatchStat(ARRAY), nnx.Param(ARRAY, tag=1)], ids=["type", "metadata"])
def test_variables_of_another_kind_are_found(other):
    graphdef, _ = nnx.split(nnx.Dict(a=nnx.Param(ARRAY)))
    model = nnx.merge(graphdef, nnx.State({"a": other}))
    check(model)
    assert nnx.split(model)[0] != graphdef


def test_bare_values_and_copies_are_found():
    graphdef, state = nnx.split(Node())
    for model in (
        nnx.merge(graphdef, nnx.to_pure_dict(state)),
        nnx.merge(graphdef, state, copy=True),
        nnx.merge(graphdef, nnx.to_pure_dict(state), recreate_variables=False),
    ):
        check(model)


def test_a_part_of_a_merged_model_announces_to_it():
    model = nnx.merge(*nnx.split(Node()))
    assert record_of(model) is record_of(model)
    before = nnx.graphdef(model)
    model.items[0].set_metadata(tag=1)
    assert nnx.graphdef(model) != before
    before = nnx.graphdef(model)
    model.names.two = nnx.Param(ARRAY)
    assert nnx.graphdef(model) != before


def test_clones_and_mapped_models_split_into_the_very_definition():
    model = Node()
    graphdef = nnx.graphdef(model)
    for made in (nnx.clone(model), nnx.merge(*nnx.split(model), copy=True)):
        assert nnx.graphdef(made) is graphdef
        check(made)
        made.items.append(nnx.Param(ARRAY))
        assert nnx.graphdef(made) != graphdef
        check(made)
        check(model)


def test_a_new_model_that_is_not_looked_at_is_freed_with_its_variables():
    graphdef, _ = nnx.split(Node())
    model = nnx.merge(graphdef, nnx.state(Node()))
    gone = weakref.ref(model), weakref.ref(model.items), weakref.ref(model.value)
    gc.collect()
    gc.disable()
    try:
        del model
        assert [reference() for reference in gone] == [None, None, None]
    finally:
        gc.enable()


def test_merged_models_in_a_trace():
    @jax.jit
    def step(graphdef, state):
        model = nnx.merge(graphdef, state)
        check(model)
        model.extra = nnx.Param(ARRAY)
        check(model)
        return nnx.split(model)

    model = nnx.merge(*step(*nnx.split(Node())))
    check(model)
    assert isinstance(model.extra, nnx.Param)
