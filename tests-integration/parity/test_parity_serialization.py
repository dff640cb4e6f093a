"""State dictionaries are Flax's, in both directions."""

from collections import namedtuple

import flax.core
import flax.serialization as theirs
import flax.struct
import fx_core.frozen_dict
import fx_core.serialization as ours
import fx_core.struct
import jax
import numpy as np
import pytest

Pair = namedtuple("Pair", "left right")
Nothing = namedtuple("Nothing", "")

TREES = [
    {"a": {}, "l": [], "t": (), "n": None},
    {1: 2, 10: {2: 3}},
    Pair(1, [2, {"x": (3,)}]),
    Nothing(),
    [Pair(Nothing(), None), np.float32(2)],
    jax.tree_util.Partial(max, 3, key=4),
    3,
    None,
]


@pytest.mark.parametrize("tree", TREES, ids=repr)
def test_states_and_what_is_restored(tree):
    state = theirs.to_state_dict(tree)
    assert ours.to_state_dict(tree) == state
    mine, flax = ours.from_state_dict(tree, state), theirs.from_state_dict(tree, state)
    assert jax.tree.structure(mine) == jax.tree.structure(flax)
    assert jax.tree.leaves(mine) == jax.tree.leaves(flax)


def test_dataclasses_and_frozen_dicts():
    states = []
    for struct, frozen, serialization in (
        (fx_core.struct, fx_core.frozen_dict, ours),
        (flax.struct, flax.core, theirs),
    ):

        @struct.dataclass
        class Box:
            value: object
            name: str = struct.field(pytree_node=False, default="box")

        states.append(serialization.to_state_dict({"b": Box([1]), "f": frozen.freeze({"x": {"y": 2}})}))
    assert states[0] == states[1]


@pytest.mark.parametrize(
    ("target", "state"),
    [
        ({"a": 1, "b": 2}, {"a": 2}),
        ([1, 2], {"0": 5}),
        (Pair(1, 2), {"left": 5}),
        (Pair(1, 2), {"0": 5, "1": 3}),
    ],
)
def test_mismatches_are_value_errors_in_both(target, state):
    for lib in (ours, theirs):
        with pytest.raises(ValueError, match=r"\."):
            lib.from_state_dict(target, state)


def test_what_dicts_leave_out_and_old_named_tuples():
    old = {"name": "Pair", "fields": {"0": "left", "1": "right"}, "values": {"0": 5, "1": 6}}
    for lib in (ours, theirs):
        assert lib.from_state_dict({"a": 1}, {"a": 2, "c": 1}) == {"a": 2}
        assert lib.from_state_dict(Pair(1, 2), old) == Pair(5, 6)
