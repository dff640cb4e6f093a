"""fx_core.serialization: trees as state dictionaries and back."""

import threading
from collections import OrderedDict, defaultdict, namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core import errors, serialization, struct
from fx_core.frozen_dict import FrozenDict, freeze
from fx_core.serialization import from_state_dict, to_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st

Pair = namedtuple("Pair", "left right")
Nothing = namedtuple("Nothing", "")


@struct.dataclass
class Box:
    value: object
    name: str = struct.field(pytree_node=False, default="box")


@pytest.mark.parametrize(
    ("tree", "state"),
    [
        ({"a": {}, 1: 2, "l": [], "t": (), "n": None}, {"a": {}, "1": 2, "l": {}, "t": {}, "n": None}),
        (freeze({"a": {"b": 1}}), {"a": {"b": 1}}),
        (Pair(1, [2, 3]), {"left": 1, "right": {"0": 2, "1": 3}}),
        (Box(Pair(1, 2)), {"value": {"left": 1, "right": 2}}),
        (Nothing(), {}),
        (OrderedDict(b=1, a=[2]), {"b": 1, "a": {"0": 2}}),
        (defaultdict(list, x=[1]), {"x": {"0": 1}}),
        (3, 3),
        (None, None),
        ("text", "text"),
    ],
)
def test_known_trees_and_their_states(tree, state):
    made = to_state_dict(tree)
    assert made == state
    restored = from_state_dict(tree, made)
    assert restored == tree
    assert type(restored) is type(tree)


def test_state_dictionaries_are_plain_dicts_all_the_way_down():
    state = to_state_dict(freeze({"a": {"b": {}}}))
    assert type(state) is type(state["a"]) is type(state["a"]["b"]) is dict


def test_arrays_keys_and_scalars_are_leaves_kept_as_they_are():
    leaves = [jnp.ones(2), np.float32(2), jax.random.key(0), jax.ShapeDtypeStruct((2,), jnp.float32)]
    state = to_state_dict(leaves)
    assert all(state[str(i)] is leaf for i, leaf in enumerate(leaves))


def test_a_partial_keeps_its_function():
    partial = jax.tree_util.Partial(max, 3, key=4)
    restored = from_state_dict(partial, {"args": {"0": 5}, "keywords": {"key": 6}})
    assert (restored.func, restored.args, restored.keywords) == (max, (5,), {"key": 6})
    with pytest.raises(errors.StateDictMismatchError, match="fit the Partial: missing 'keywords'"):
        from_state_dict(partial, {"args": {"0": 5}})


def test_dicts_take_what_the_target_names_and_leave_the_rest():
    assert from_state_dict({"a": 1}, {"a": 2, "more": 3}) == {"a": 2}


@pytest.mark.parametrize(
    ("target", "state", "text"),
    [
        ({"q": {"a": 1}}, {"q": {}}, r"fit the dict: missing 'a'\.\n  where: \./q\n  expected: \['a'\]\n  got: \[\]"),
        ({"p": [1, 2]}, {"p": {"0": 5}}, r"list of 2: missing '1'\.\n  where: \./p"),
        ({"p": (1,)}, {"p": {"0": 5, "1": 6}}, r"tuple of 1: unknown '1'\.\n  where: \./p"),
        (Pair(1, 2), {"left": 1, "rite": 2}, r"named tuple Pair: missing 'right'; unknown 'rite'"),
        ({"a": 1}, None, r"fit the dict\.\n  where: \.\n  expected: a dict with 'a'\n  got: NoneType: None"),
        ({"a": {"b": [1]}}, {"a": {"b": 3}}, r"where: \./a/b\n  expected: a dict with '0'\n  got: int: 3"),
        ([], 3, r"a dict with no entries"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_with_path(target, state, text):
    with pytest.raises(errors.StateDictMismatchError, match=text):
        from_state_dict(target, state)
    assert serialization.current_path() == ""


def test_the_name_of_the_root_is_free():
    with pytest.raises(errors.StateDictMismatchError, match="where: params/a"):
        from_state_dict({"a": [1]}, {"a": {}}, name="params")


def test_keys_that_become_the_same_string_are_refused():
    with pytest.raises(errors.ArgumentError, match=r"where: a\n.*\n  got: 1, '1'"):
        to_state_dict({"a": {1: 1, "1": 2, 3: 4}})


def test_named_tuples_of_old_files_are_read():
    old = {"name": "Pair", "fields": {"0": "left", "1": "right"}, "values": {"0": 5, "1": 6}}
    assert from_state_dict(Pair(1, 2), old) == Pair(5, 6)


def test_types_of_ones_own():
    class Counter:
        def __init__(self, n):
            self.n = n

    class Special(Counter):
        pass

    def restore(counter, state):
        return (counter.n, state["n"], serialization.current_path())

    assert not serialization.is_serializable(Counter)
    serialization.register_serialization_state(Counter, lambda c: {"n": c.n}, restore)
    assert serialization.is_serializable(Counter)
    assert serialization.is_serializable(Counter(1))
    tree = {"a": [Counter(3)]}
    assert to_state_dict(tree) == {"a": {"0": {"n": 3}}}
    assert from_state_dict(tree, {"a": {"0": {"n": 4}}}) == {"a": [(3, 4, "./a/0")]}
    special = Special(1)
    assert to_state_dict(special) is special
    with pytest.raises(errors.ArgumentError, match=r"Counter are registered already"):
        serialization.register_serialization_state(Counter, lambda c: {}, restore)
    serialization.register_serialization_state(Counter, lambda c: {"m": c.n}, restore, override=True)
    assert to_state_dict(Counter(3)) == {"m": 3}


def test_what_is_serializable():
    for yes in ({}, [], (), Pair(1, 2), FrozenDict(), Box(1), Box, Pair):
        assert serialization.is_serializable(yes)
    for no in (3, None, "s", jnp.ones(1), object()):
        assert not serialization.is_serializable(no)


def test_paths_belong_to_their_thread():
    seen = []

    class Spy:
        pass

    def restore(target, state):
        thread = threading.Thread(target=lambda: seen.append(serialization.current_path()))
        thread.start()
        thread.join()
        seen.append(serialization.current_path())
        return target

    serialization.register_serialization_state(Spy, lambda s: {}, restore)
    from_state_dict({"a": Spy()}, {"a": {}})
    assert seen == ["", "./a"]


leaves = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.booleans()
keys = st.one_of(st.text(max_size=3), st.integers(0, 20).map(str), st.integers(0, 20))


def distinct_as_text(tree):
    return len({str(key) for key in tree}) == len(tree)


def containers(children):
    dicts = st.dictionaries(keys, children, max_size=3).filter(distinct_as_text)
    return st.one_of(
        dicts,
        dicts.map(FrozenDict),
        dicts.map(OrderedDict),
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        st.builds(Pair, children, children),
        st.just(Nothing()),
        st.builds(Box, children),
    )


trees = st.recursive(leaves, containers, max_leaves=12)


def types(tree):
    """The types of a tree's nodes: equality alone takes a frozen dict for a dict."""
    if isinstance(tree, Box):
        return Box, types(tree.value)
    if isinstance(tree, dict | FrozenDict):
        return type(tree), [(key, types(value)) for key, value in tree.items()]
    return type(tree), [types(x) for x in tree] if isinstance(tree, list | tuple) else []


@settings(deadline=None, max_examples=50)
@given(trees)
def test_round_trips_are_the_identity(tree):
    restored = from_state_dict(tree, to_state_dict(tree))
    assert restored == tree
    assert types(restored) == types(tree)


def plain(state):
    return not isinstance(state, list | tuple | FrozenDict | Box) and (
        not isinstance(state, dict) or all(isinstance(key, str) and plain(value) for key, value in state.items())
    )


@settings(deadline=None, max_examples=50)
@given(trees)
def test_states_are_nested_dicts_with_string_keys_and_states_of_themselves(tree):
    state = to_state_dict(tree)
    assert plain(state)
    assert to_state_dict(state) == state


@pytest.mark.parametrize("name", ["to_bytes", "from_bytes", "msgpack_restore", "msgpack_serialize"])
def test_bytes_are_elsewhere_and_the_error_says_where(name):
    with pytest.raises(AttributeError, match=f"from fx_ckpt import {name}"):
        getattr(serialization, name)
    assert not hasattr(serialization, "nothing_of_this_name")
