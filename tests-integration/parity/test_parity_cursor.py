"""Cursors do what Flax's do."""

from collections import namedtuple

import pytest
from flax.cursor import cursor as theirs
from fx_core.cursor import cursor as ours

Pair = namedtuple("Pair", "left right")


def example():
    return {"a": {"b": [1, 2, (3, 4)]}, "c": Pair(5, Pair(6, {}))}


@pytest.mark.parametrize("cursor", [ours, theirs], ids=["fx", "flax"])
class TestCursors:
    def test_changes(self, cursor):
        c = cursor(example())
        assert c["a"]["b"][0].set(9)["a"]["b"] == [9, 2, (3, 4)]
        assert c["c"].left.set(8) == {"a": {"b": [9, 2, (3, 4)]}, "c": Pair(8, Pair(6, {}))}
        c["a"]["b"][2][1] = 40
        c["a"]["b"][0] += 1
        c["c"].right.left = 60
        c["new"] = 3
        assert c.build() == {"a": {"b": [10, 2, (3, 40)]}, "c": Pair(8, Pair(60, {})), "new": 3}
        assert c.set({"z": 1}) == {"z": 1}

    def test_paths_and_order_of_updates(self, cursor):
        seen = []

        def update(path, value):
            seen.append(path)
            return {"new": 1} if path == "a" else value * 2 if isinstance(value, int) else value

        built = cursor(example()).apply_update(update).build()
        assert built == {"a": {"new": 1}, "c": Pair(10, Pair(12, {}))}
        assert seen == ["a", "c", "c/left", "c/right", "c/right/left", "c/right/right"]

    def test_finding(self, cursor):
        assert cursor(example()).find(lambda path, x: x == 3).set(0)["a"]["b"] == [1, 2, (0, 4)]
        found = cursor({"a": {"a": {"a": 1}}}).find_all(lambda path, x: "a" in path)
        assert [f.build() for f in found] == [{"a": {"a": 1}}]

    def test_lookups_that_fail(self, cursor):
        c = cursor(example())
        with pytest.raises(KeyError):
            c["nope"]
        with pytest.raises(AttributeError):
            c["c"].nope  # noqa: B018
        with pytest.raises(IndexError):
            c["a"]["b"][9]
