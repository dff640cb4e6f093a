"""fx_core.cursor: noting changes in immutable trees."""

import copy
import operator
import pickle
from collections import OrderedDict, defaultdict, namedtuple

import jax.numpy as jnp
import pytest
from fx_core import errors, struct
from fx_core.cursor import Cursor, cursor, traverse_tree
from fx_core.frozen_dict import FrozenDict, freeze
from hypothesis import given, settings
from hypothesis import strategies as st

Pair = namedtuple("Pair", "left right")


@struct.dataclass
class State:
    step: object
    params: object = None
    name: str = struct.field(pytree_node=False, default="state")

    @property
    def next_step(self):
        return self.step + 1


def example():
    return {"a": {"b": [1, 2, (3, 4)]}, "c": Pair(5, State(6))}


def test_changes_are_built_into_a_copy():
    tree = example()
    c = cursor(tree)
    c["a"]["b"][0] = 100
    c["a"]["b"][0] += 1
    c["a"]["b"][2][-1] = 40
    c["a"]["new"] = {"x": 1}
    c["a"]["new"]["x"] *= 7
    c["c"].left = 7
    c["c"].right.step = 60
    c["c"].right.name = "other"
    assert c.build() == {"a": {"b": [101, 2, (3, 40)], "new": {"x": 7}}, "c": Pair(7, State(60, name="other"))}
    assert tree == example()
    assert c["a"]["b"].build() == [101, 2, (3, 40)]


def test_what_did_not_change_is_shared():
    tree = example()
    c = cursor(tree)
    assert c.build() is tree
    c["c"].left = 7
    assert c.build()["a"] is tree["a"]


def test_set_builds_the_whole_tree_with_earlier_changes():
    c = cursor(example())
    assert c["c"].left.set(9)["c"].left == 9
    built = c["c"][1].step.set(8)
    assert (built["c"].left, built["c"].right.step) == (9, 8)
    assert c.set({"z": 1}) == {"z": 1}
    assert c.build() == built


def test_containers_keep_their_types():
    for tree in (freeze({"a": 1}), OrderedDict(b=0, a=1), defaultdict(list, a=1), {"a": 1}):
        built = cursor(tree)["a"].set(2)
        assert built == type(tree)({**tree, "a": 2}) if not isinstance(tree, defaultdict) else built["a"] == 2
        assert type(built) is type(tree)
    assert cursor(defaultdict(list, a=1))["a"].set(2)["missing"] == []
    assert isinstance(cursor(freeze({"a": {"b": 1}}))["a"]["b"].set(2)["a"], FrozenDict)


def test_cursors_may_be_assigned_to_each_other():
    c = cursor({"a": [1], "b": 2})
    c["b"] = c["a"]
    assert c.build() == {"a": [1], "b": [1]}
    assert c["b"].set(c["a"][0]) == {"a": [1], "b": 1}
    assert cursor(1).set(c["a"]) == [1]


def test_a_change_above_takes_the_place_of_changes_below():
    c = cursor({"a": {"b": 1}})
    c["a"]["b"] = 2
    c["a"] = {"b": 3}
    assert c.build() == {"a": {"b": 3}}


def test_updates_go_from_the_top_down_and_not_inside_of_what_they_changed():
    seen = []

    def update(path, value):
        seen.append(path)
        if path == "a":
            return {"b": 0}
        return value * 10 if isinstance(value, int) else value

    c = cursor(example())
    assert c.apply_update(update) is c
    assert c.build() == {"a": {"b": 0}, "c": Pair(50, State(60))}
    assert seen == ["a", "c", "c/left", "c/right", "c/right/step", "c/right/params", "c/right/name"]


def test_updates_see_earlier_changes():
    c = cursor({"a": 1, "n": {}})
    c["a"] = 5
    c["n"]["new"] = 7
    assert c.apply_update(lambda path, x: x + 1 if isinstance(x, int) else x).build() == {"a": 6, "n": {"new": 8}}


def test_find_gives_the_one():
    c = cursor(example())
    assert c.find(lambda path, x: x == 3).set(0)["a"]["b"] == [1, 2, (0, 4)]
    found = c.find(lambda path, x: path == "c/right")
    found.step += 1
    assert c.build()["c"].right.step == 7


def test_find_refuses_none_and_many():
    c = cursor(example())
    with pytest.raises(errors.CursorFindError, match=r"Nothing in the tree(.|\n)*got: none"):
        c.find(lambda path, x: x == 30)
    with pytest.raises(errors.CursorFindError, match=r"More than one thing(.|\n)*got: 1 and 2"):
        c.find(lambda path, x: isinstance(x, int))


def test_find_all_does_not_look_inside_of_what_it_found():
    assert [f.build() for f in cursor({"a": {"a": {"a": 1}}, "b": [{"a": 2}]}).find_all(lambda p, x: p[-1] == "a")] == [
        {"a": {"a": 1}},
        2,
    ]


def test_what_was_found_can_be_changed_while_searching():
    c = cursor(example())
    for number, found in enumerate(c.find_all(lambda path, x: isinstance(x, int))):
        found.set(number)
    assert c.build() == {"a": {"b": [0, 1, (2, 3)]}, "c": Pair(4, State(5))}


def test_a_walk_has_one_purpose():
    for functions, got in (({}, "neither"), ({"update_fn": max, "cond_fn": max}, "both")):
        with pytest.raises(errors.TraverseTreeError, match=f"got: {got}"):
            traverse_tree(cursor({}), **functions)


BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge"]
BINARY += ["and_", "or_", "xor", "lshift", "rshift"]


@pytest.mark.parametrize("name", BINARY)
def test_binary_operators_work_on_values_from_both_sides(name):
    fn = getattr(operator, name)
    c = cursor({"x": 6, "y": 2})
    assert fn(c["x"], 2) == fn(6, c["y"]) == fn(c["x"], c["y"]) == fn(6, 2)


def test_other_operators():
    c = cursor({"x": -6, "f": 2.6, "l": [1, 2], "m": jnp.eye(2)})
    assert (-c["x"], +c["x"], abs(c["x"]), ~c["x"]) == (6, -6, 6, 5)
    assert (round(c["f"]), round(c["f"], 1), int(c["f"]), float(c["x"])) == (3, 2.6, 2, -6.0)
    assert (divmod(c["x"], 4), divmod(20, c["x"])) == (divmod(-6, 4), divmod(20, -6))
    assert [10, 20, 30][cursor(1)] == 20
    assert (len(c["l"]), len(c), 2 in c["l"], "x" in c, bool(cursor(0)), bool(c["l"])) == (
        2,
        4,
        True,
        True,
        False,
        True,
    )
    assert (c["m"] @ jnp.ones((2, 2)) == 1).all()
    assert str(c["l"]) == "[1, 2]"


def test_iteration_gives_cursors_to_entries_and_keys_of_dicts():
    c = cursor({"l": [1, 2]})
    for entry in c["l"]:
        entry.set(entry + 10)
    assert c.build() == {"l": [11, 12]}
    assert [x.build() for x in reversed(c["l"])] == [12, 11]
    assert list(c) == ["l"]


def test_representation_shows_object_and_changes():
    c = cursor({"a": [1, 2]})
    assert repr(c) == "Cursor({'a': [1, 2]})"
    c["a"][0] = 5
    assert repr(c) == "Cursor({'a': [1, 2]}, changes={'a': [5, 2]})"


def test_cursors_copy_and_pickle_but_do_not_hash():
    c = cursor(example())
    c["c"].left = 7
    for other in (copy.deepcopy(c), pickle.loads(pickle.dumps(c))):
        other["c"].right.step = 0
        assert other.build()["c"] == Pair(7, State(0))
    assert c.build()["c"] == Pair(7, State(6))
    with pytest.raises(TypeError, match="unhashable"):
        hash(c)


def test_other_attributes_and_entries_can_be_read():
    c = cursor({"s": State(6), "w": jnp.arange(3)})
    assert c["s"].next_step == 7
    assert c["w"][1] + 1 == 2
    assert c["w"].shape.build() == (3,)
    with pytest.raises(errors.ArgumentTypeError, match=r"go to 1 inside of ArrayImpl"):
        c["w"][1] = 5
    with pytest.raises(errors.ArgumentTypeError, match=r"where: w\n"):
        c["w"][1].set(5)


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (
            lambda c: c["nope"],
            errors.ItemNotFoundError,
            r"Key 'nope' is not in the dict.\n.* one of \['a', 'c'\]",
        ),
        (lambda c: c["a"]["x"], errors.ItemNotFoundError, r"where: a\n"),
        (lambda c: c["a"].b, errors.InvalidAttributeError, "dict has no attribute 'b'"),
        (lambda c: c.keys, errors.InvalidAttributeError, "a named tuple or a dataclass"),
        (lambda c: c["c"].nope, errors.InvalidAttributeError, r"Pair has no .* 'nope'(.|\n)*where: c\n.*left, right"),
        (lambda c: setattr(c["c"].right, "steps", 1), errors.InvalidAttributeError, "where: c/right\n"),
        (lambda c: setattr(c["c"].right, "next_step", 1), errors.InvalidAttributeError, "step, params, name"),
        (
            lambda c: c["a"]["b"][9],
            errors.ItemNotFoundError,
            r"Index 9 .* sequence of 3.\n  where: a/b\n.*from -3 to 2",
        ),
        (lambda c: operator.setitem(c["a"]["b"], 9, 1), errors.ItemNotFoundError, "Index 9"),
        (lambda c: c["a"]["b"][0:2], errors.ItemNotFoundError, r"Index slice\(0, 2, None\)"),
        (lambda c: c["a"]["b"][0]["x"], errors.ArgumentTypeError, r"go to 'x' inside of int.\n  where: a/b/0"),
        (lambda c: operator.setitem(c["a"]["b"][0], "x", 1), errors.ArgumentTypeError, "got: int: 1"),
    ],
)
def test_places_that_do_not_exist(use, error, text):
    with pytest.raises(error, match=text):
        use(cursor(example()))


def test_errors_are_those_that_python_expects_too():
    assert not hasattr(cursor({}), "missing")
    with pytest.raises(KeyError, match="Key 'x'"):
        cursor({})["x"]
    with pytest.raises(IndexError, match="the sequence is empty"):
        cursor([])[0]


leaves = st.integers() | st.text(max_size=2)
trees = st.recursive(
    leaves,
    lambda children: st.one_of(
        st.dictionaries(st.text("abc", max_size=2), children, max_size=3),
        st.dictionaries(st.text("abc", max_size=2), children, max_size=3).map(FrozenDict),
        st.lists(children, max_size=3),
        st.lists(children, max_size=3).map(tuple),
        st.builds(Pair, children, children),
        st.builds(State, children),
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=50)
@given(trees)
def test_replacing_every_leaf_by_itself_gives_an_equal_tree(tree):
    c = cursor([tree])
    found = list(c.find_all(lambda path, x: isinstance(x, int | str)))
    for leaf in found:
        leaf.set(leaf.build())
    assert c.build() == [tree]
    assert isinstance(c, Cursor)
    assert type(c.build()[0]) is type(tree)


@settings(deadline=None, max_examples=50)
@given(trees)
def test_updates_reach_every_leaf_once(tree):
    count = 0

    def update(path, x):
        nonlocal count
        if isinstance(x, int) and not isinstance(x, bool):
            count += 1
            return x + 1
        return x

    c = cursor([tree]).apply_update(update)
    back = cursor(c.build()).apply_update(lambda path, x: x - 1 if isinstance(x, int) else x).build()
    assert back == [tree]
    assert count == sum(1 for _ in cursor([tree]).find_all(lambda path, x: isinstance(x, int)))
