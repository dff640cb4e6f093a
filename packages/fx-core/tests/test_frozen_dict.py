import copy as python_copy
import pickle
from typing import NamedTuple

import jax
import pytest
from fx_core.errors import ArgumentTypeError, ImmutableError
from fx_core.frozen_dict import FrozenDict, FrozenKeysView, FrozenValuesView, copy, freeze, pop, pretty_repr, unfreeze
from hypothesis import given, settings
from hypothesis import strategies as st


class Pair(NamedTuple):
    first: object
    second: object


keys = st.text(alphabet="ab01", max_size=2)
leaves = st.one_of(st.none(), st.integers(), st.text(max_size=2), st.just(()), st.just([]), st.just(Pair(1, None)))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(st.integers(0, 3), inner, max_size=3),
        st.lists(inner, max_size=2),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=8,
)
trees = st.one_of(st.dictionaries(keys, values, max_size=4), st.dictionaries(st.integers(0, 12), values, max_size=4))
check = settings(max_examples=50, deadline=None)


@check
@given(trees)
def test_unfreeze_undoes_freeze(tree):
    frozen = freeze(tree)
    thawed = unfreeze(frozen)
    assert thawed == tree
    assert type(thawed) is dict
    assert jax.tree.structure(thawed) == jax.tree.structure(tree)
    assert freeze(thawed) == frozen == tree


@check
@given(trees)
def test_flattening_is_undone_by_unflattening(tree):
    frozen = freeze(tree)
    flat, structure = jax.tree.flatten(frozen)
    back = jax.tree.unflatten(structure, flat)
    assert type(back) is FrozenDict
    assert back == frozen
    assert flat == jax.tree.leaves(tree)
    with_keys = jax.tree_util.tree_flatten_with_path(frozen)[0]
    assert with_keys == jax.tree_util.tree_flatten_with_path(tree)[0]


@check
@given(trees)
def test_pickle_and_deepcopy_keep_everything(tree):
    frozen = freeze(tree)
    for back in (pickle.loads(pickle.dumps(frozen)), python_copy.deepcopy(frozen), python_copy.copy(frozen)):
        assert type(back) is FrozenDict
        assert back == frozen


@check
@given(st.dictionaries(keys, st.one_of(st.integers(), st.dictionaries(keys, st.integers(), max_size=2)), max_size=3))
def test_equal_dictionaries_hash_equally(tree):
    backwards = dict(reversed(tree.items()))
    assert hash(freeze(tree)) == hash(freeze(backwards))
    assert {freeze(tree): 1}[freeze(backwards)] == 1


@check
@given(trees, trees)
def test_copy_and_pop_are_those_of_dicts(tree, more):
    frozen = freeze(tree)
    assert frozen.copy(more) == {**tree, **more}
    assert frozen == tree
    for key in tree:
        rest, value = frozen.pop(key)
        assert value == tree[key]
        assert rest == {k: v for k, v in tree.items() if k != key}


def test_nobody_can_change_it_from_outside():
    source = {"a": {"b": 1}}
    frozen = freeze(source)
    source["a"]["b"] = 2
    frozen.unfreeze()["a"]["b"] = 3
    dict(frozen.items())["a"].unfreeze()["b"] = 4
    assert frozen == {"a": {"b": 1}}
    nested = freeze({"x": frozen})
    assert type(nested["x"]) is type(nested["x"]["a"]) is FrozenDict


@pytest.mark.parametrize("write", [lambda d: d.__setitem__("a", 1), lambda d: d.__delitem__("a")])
def test_writing_raises(write):
    with pytest.raises(ImmutableError, match=r"immutable: the item 'a' cannot be set") as info:
        write(freeze({"a": 0}))
    assert "copy" in info.value.fix
    assert isinstance(info.value, ValueError)


def test_values_that_cannot_be_hashed_raise():
    with pytest.raises(TypeError, match="unhashable"):
        hash(freeze({"a": [1]}))


def test_views():
    frozen = FrozenDict({"a": {"b": 1}}, c=2)
    assert repr(frozen.keys()) == "frozen_dict_keys(['a', 'c'])"
    assert repr(freeze({"c": 2}).values()) == "frozen_dict_values([2])"
    assert isinstance(frozen.keys(), FrozenKeysView)
    assert isinstance(frozen.values(), FrozenValuesView)
    assert frozen.keys() == {"a", "c"}
    assert frozen.get("c") == 2
    assert frozen.get("z", 3) == 3
    assert len(frozen) == 2
    assert "a" in frozen
    assert "z" not in frozen
    assert not FrozenDict()
    with pytest.raises(KeyError, match="z"):
        frozen["z"]


def test_pretty_repr():
    assert repr(freeze({"a": {"b": 1, "s": "x"}, "e": {}})) == (
        "FrozenDict({\n    a: {\n        b: 1,\n        s: 'x',\n    },\n    e: {},\n})"
    )
    assert repr(FrozenDict()) == "FrozenDict({})"
    assert pretty_repr({"a": freeze({"b": 1})}, 2) == "{\n  a: {\n    b: 1,\n  },\n}"
    assert pretty_repr(3) == "3"


def test_functions_keep_the_kind_of_dictionary():
    assert type(copy({"a": 1}, {"b": 2})) is dict
    assert type(copy(freeze({"a": 1}), {"b": 2})) is FrozenDict
    assert pop({"a": 1, "b": 2}, "a") == ({"b": 2}, 1)
    assert pop(freeze({"a": 1, "b": 2}), "a") == (freeze({"b": 2}), 1)
    assert unfreeze({"a": freeze({"b": 1})}) == {"a": {"b": 1}}
    assert unfreeze(3) == 3


def test_copying_a_dict_leaves_the_old_one_alone():
    old = {"a": {"b": 1}}
    copy(old)["a"]["b"] = 2
    assert old == {"a": {"b": 1}}


@pytest.mark.parametrize("use", [lambda x: copy(x, {}), lambda x: pop(x, "a")])
def test_other_things_than_dictionaries_raise(use):
    with pytest.raises(ArgumentTypeError, match="works on dictionaries") as info:
        use(3)
    assert info.value.got == "int: 3"
    assert isinstance(info.value, TypeError)


def test_structure_names_the_keys():
    flat = jax.tree_util.tree_flatten_with_path(freeze({"b": 1, "a": {"z": 2, "y": None}}))[0]
    assert [(jax.tree_util.keystr(path), leaf) for path, leaf in flat] == [("['a']['z']", 2), ("['b']", 1)]
