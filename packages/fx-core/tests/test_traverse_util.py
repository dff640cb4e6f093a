"""fx_core.traverse_util: flat dicts and traversals."""

import copy
import pickle
from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pytest
from fx_core import errors, struct
from fx_core.frozen_dict import FrozenDict, freeze
from fx_core.traverse_util import (
    ModelParamTraversal,
    Traversal,
    TraverseMerge,
    empty_node,
    flatten_dict,
    path_aware_map,
    t_identity,
    unflatten_dict,
)
from hypothesis import given, settings
from hypothesis import strategies as st

Pair = namedtuple("Pair", "left right")


@struct.dataclass
class Box:
    value: object
    name: str = struct.field(pytree_node=False, default="box")


def test_flat_keys_are_paths():
    tree = {"a": {"b": 1, "c": {}}, 2: FrozenDict(d=3)}
    assert flatten_dict(tree) == {("a", "b"): 1, (2, "d"): 3}
    assert flatten_dict(tree, keep_empty_nodes=True) == {("a", "b"): 1, ("a", "c"): empty_node, (2, "d"): 3}
    assert flatten_dict({"a": {"b": 1, "c": {}}}, True, sep="/") == {"a/b": 1, "a/c": empty_node}
    assert flatten_dict({}, keep_empty_nodes=True) == {}


def test_leaves_may_be_declared():
    seen = []

    def is_leaf(path, node):
        seen.append((path, node))
        return "stop" in node

    tree = {"a": {"stop": 1}, "b": {"c": 2}}
    assert flatten_dict(tree, is_leaf=is_leaf) == {("a",): {"stop": 1}, ("b", "c"): 2}
    assert seen == [((), tree), (("a",), {"stop": 1}), (("b",), {"c": 2})]
    whole = flatten_dict(tree, is_leaf=lambda path, node: True)
    assert whole == {(): tree}
    assert unflatten_dict(whole) is tree
    assert flatten_dict(tree, is_leaf=lambda path, node: True, sep="/") == {"": tree}


def test_values_that_are_dicts_stay_whole():
    flat = {("a",): {"x": 1}}
    assert unflatten_dict(flat) == {"a": {"x": 1}}
    assert unflatten_dict(flat)["a"] is flat[("a",)]


def test_an_empty_node_gives_way_to_what_is_below_it():
    assert unflatten_dict({("a",): empty_node, ("a", "b"): 1}) == {"a": {"b": 1}}
    assert unflatten_dict({("a", "b"): 1, ("a",): empty_node}) == {"a": {"b": 1}}
    assert unflatten_dict({(): empty_node}) == {}


@pytest.mark.parametrize("flat", [{("a",): 1, ("a", "b"): 2}, {("a", "b"): 2, ("a",): 1}, {("a",): {}, ("a", "b"): 2}])
def test_a_path_is_not_both_a_value_and_a_dict(flat):
    with pytest.raises(errors.ArgumentError, match=r"where: \('a',\)"):
        unflatten_dict(flat)


def test_the_empty_path_stands_alone():
    with pytest.raises(errors.ArgumentError, match=r"where: \(\)"):
        unflatten_dict({(): 1, ("a",): 2})


def test_what_is_no_dict_is_refused():
    for function in (flatten_dict, unflatten_dict):
        with pytest.raises(errors.ArgumentTypeError, match=rf"{function.__name__} works on .*\n.*\n  got: list: \[1\]"):
            function([1])
    with pytest.raises(errors.ArgumentTypeError, match="ModelParamTraversal works on nested dicts"):
        list(ModelParamTraversal(lambda path, value: True).iterate(3))


def test_keys_that_do_not_fit_the_separator_are_refused():
    with pytest.raises(errors.ArgumentTypeError, match=r"Key 1 does not fit sep='/'.\n.*string keys\n  got: int"):
        flatten_dict({1: {"a": 2}}, sep="/")
    with pytest.raises(errors.ArgumentTypeError, match=r"Key 'a/b' does not fit sep=None.(.|\n)*Pass the separator"):
        unflatten_dict({"a/b": 1})
    with pytest.raises(errors.ArgumentTypeError, match=r"Key \('a',\) does not fit sep='/'"):
        unflatten_dict({("a",): 1}, sep="/")


def test_maps_know_paths_and_keep_empty_dicts():
    tree = {"a": {"b": 1, "c": {}}, "d": None}
    assert path_aware_map(lambda path, x: (path, x), tree) == {
        "a": {"b": (("a", "b"), 1), "c": {}},
        "d": (("d",), None),
    }


def test_the_empty_node_is_one_in_every_process():
    assert pickle.loads(pickle.dumps(empty_node)) == empty_node
    assert len({empty_node, copy.deepcopy(empty_node)}) == 1
    assert unflatten_dict({("a",): copy.deepcopy(empty_node)}) == {"a": {}}


keys = st.text(max_size=3) | st.integers(0, 9) | st.none()
nested = st.recursive(
    st.none() | st.integers() | st.just(()) | st.lists(st.integers(), max_size=2),
    lambda children: st.dictionaries(keys, children, max_size=4),
    max_leaves=15,
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(keys, nested, max_size=4))
def test_flattening_and_back_is_the_identity(tree):
    assert unflatten_dict(flatten_dict(tree, keep_empty_nodes=True)) == tree


words = st.text("abc", min_size=0, max_size=3)


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.dictionaries(words, st.integers(), max_size=3),
        lambda children: st.dictionaries(words, children, max_size=3),
        max_leaves=10,
    )
)
def test_flattening_with_a_separator_and_back_is_the_identity(tree):
    flat = flatten_dict(tree, keep_empty_nodes=True, sep="/")
    assert unflatten_dict(flat, sep="/") == tree
    assert flat == flatten_dict(freeze(tree), keep_empty_nodes=True, sep="/")


TREES = [
    (t_identity, 3, [3], 6),
    (t_identity["a"].each(), {"a": [1, 2], "b": 3}, [1, 2], {"a": [2, 4], "b": 3}),
    (t_identity.each(), {"a": 1}, [1], {"a": 2}),
    (t_identity.each(), FrozenDict(a=1), [1], FrozenDict(a=2)),
    (t_identity.each(), Pair(1, 2), [1, 2], Pair(2, 4)),
    (t_identity.tree(), {"b": [1, 2], "a": 3}, [3, 1, 2], {"b": [2, 4], "a": 6}),
    (t_identity.tree().filter(lambda x: x > 1), {"b": [1, 2], "a": 3}, [3, 2], {"b": [1, 4], "a": 6}),
    (t_identity.left, Pair(1, 2), [1], Pair(2, 2)),
    (t_identity.value, Box(1), [1], Box(2)),
    (t_identity.name, Box(1), ["box"], Box(1, name="boxbox")),
    (t_identity[-1], (1, 2), [2], (1, 4)),
    (t_identity[1], Pair(1, 2), [2], Pair(1, 4)),
    (t_identity[1:], [1, 2, 3], [2, 3], [1, 4, 6]),
    (t_identity["a"], FrozenDict(a=1), [1], FrozenDict(a=2)),
    (t_identity["b"], OrderedDict(b=1, a=2), [1], OrderedDict(b=2, a=2)),
    (t_identity["b"], defaultdict(int, b=1), [1], defaultdict(int, b=2)),
    (TraverseMerge(t_identity["a"], t_identity["b"]), {"a": 1, "b": 2, "c": 3}, [1, 2], {"a": 2, "b": 4, "c": 3}),
    (t_identity["a"].compose(t_identity.right), {"a": Pair(1, 2)}, [2], {"a": Pair(1, 4)}),
    (t_identity.merge(t_identity[0], t_identity[0]), [1], [1, 1], [4]),
]


@pytest.mark.parametrize(("traversal", "tree", "parts", "doubled"), TREES)
def test_traversals_read_and_update(traversal, tree, parts, doubled):
    before = copy.deepcopy(tree)
    assert list(traversal.iterate(tree)) == parts
    updated = traversal.update(lambda x: x * 2, tree)
    assert updated == doubled
    assert type(updated) is type(tree)
    assert tree == before


def test_set_takes_as_many_values_as_there_are_parts():
    each = t_identity["a"].each()
    assert each.set([7, 8], {"a": [1, 2]}) == {"a": [7, 8]}
    assert each.set(iter([7, 8]), {"a": [1, 2]}) == {"a": [7, 8]}
    for values, text in (([7], r"Too few values .*\n  expected: 2 values\n  got: 1"), ([1, 2, 3], "Too many values")):
        with pytest.raises(errors.ArgumentError, match=text):
            each.set(values, {"a": [1, 2]})


@pytest.mark.parametrize(
    ("traversal", "tree", "error", "text"),
    [
        (
            t_identity.each(),
            3,
            errors.ArgumentTypeError,
            r"each entry of this object.\n.*or tuple\n  got: int",
        ),
        (t_identity.each(), np.arange(3), errors.ArgumentTypeError, "got: ndarray"),
        (t_identity[0], 3, errors.ArgumentTypeError, r"traverse \[0\] of"),
        (t_identity.nope, Pair(1, 2), errors.ArgumentTypeError, "attribute 'nope'"),
        (t_identity["z"], {"a": 1}, errors.ItemNotFoundError, r"No entry 'z' to traverse.\n  expected: one of: 'a'"),
        (t_identity[5], [1, 2], errors.ItemNotFoundError, r"No entry 5 .*\n.*2 entries"),
    ],
)
def test_what_cannot_be_traversed(traversal, tree, error, text):
    with pytest.raises(error, match=text):
        list(traversal.iterate(tree))
    with pytest.raises(error, match=text):
        traversal.update(lambda x: x, tree)


def test_updates_of_objects_change_a_copy():
    class Thing:
        x = 1

    thing = Thing()
    assert list(t_identity.x.iterate(thing)) == [1]
    changed = t_identity.x.update(lambda x: x + 1, thing)
    assert (type(changed), changed.x, thing.x) == (Thing, 2, 1)
    with pytest.raises(ValueError, match="works on nested dicts"):
        ModelParamTraversal(lambda *_: True).update(lambda x: x, [])


def test_traversals_are_abstract_and_copy():
    with pytest.raises(TypeError, match="abstract"):
        Traversal()  # type: ignore[abstract]
    traversal = copy.deepcopy(t_identity["a"].value)
    assert list(traversal.iterate({"a": Box(5)})) == [5]


def test_parameters_are_chosen_by_name_and_value_in_sorted_order():
    params = {"d": {"kernel": 1, "bias": 2, "e": {}}, 0: {"kernel": 3}}
    seen = []

    def choose(path, value):
        seen.append((path, value))
        return "kernel" in path

    traversal = ModelParamTraversal(choose)
    assert list(traversal.iterate(params)) == [3, 1]
    assert seen == [("/0/kernel", 3), ("/d/bias", 2), ("/d/kernel", 1)]
    assert traversal.update(lambda x: -x, params) == {"d": {"kernel": -1, "bias": 2, "e": {}}, 0: {"kernel": -3}}
    frozen = traversal.update(lambda x: -x, freeze({"d": {"kernel": 1}}))
    assert isinstance(frozen, FrozenDict)
    assert frozen == freeze({"d": {"kernel": -1}})


def test_merge_goes_on_from_what_is_selected():
    each = t_identity.each()
    both = each.merge(t_identity["a"], t_identity["b"])
    tree = [{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}]
    assert list(both.iterate(tree)) == [1, 2, 4, 5]
    assert both.update(lambda x: -x, tree) == [{"a": -1, "b": -2, "c": 3}, {"a": -4, "b": -5, "c": 6}]
    assert both.set([7, 8, 9, 10], tree) == [{"a": 7, "b": 8, "c": 3}, {"a": 9, "b": 10, "c": 6}]
