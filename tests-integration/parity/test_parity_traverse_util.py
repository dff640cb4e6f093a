"""Flat dicts and traversals give what Flax gives."""

import pytest
from flax import traverse_util as theirs
from fx_core import traverse_util as ours

TREES = [{}, {"a": {}}, {"a": {"b": 1, "c": {}}, 2: {"d": None}}, {"b": {"y": [1], "x": 2}, "a": 3}]


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("keep", [False, True])
def test_flatten_and_unflatten(tree, keep):
    def plain(flat, empty):
        return {key: "empty" if value == empty else value for key, value in flat.items()}

    mine, flax = ours.flatten_dict(tree, keep), theirs.flatten_dict(tree, keep)
    assert plain(mine, ours.empty_node) == plain(flax, theirs.empty_node)
    assert ours.unflatten_dict(mine) == theirs.unflatten_dict(flax)
    assert ours.path_aware_map(lambda path, x: (path, x), tree) == theirs.path_aware_map(
        lambda path, x: (path, x), tree
    )


def test_separator_and_leaves():
    tree = {"a": {"b": 1, "c/d": {"e": 2}}}
    for lib in (ours, theirs):
        assert lib.flatten_dict(tree, sep="/") == {"a/b": 1, "a/c/d/e": 2}
        assert lib.flatten_dict(tree, is_leaf=lambda path, x: True, sep="/") == {"": tree}
        assert lib.flatten_dict(tree, is_leaf=lambda path, x: len(path) == 1) == {("a",): tree["a"]}


TRAVERSALS = [
    (lambda lib: lib.t_identity["a"].each(), {"a": [1, 2], "b": 3}),
    (lambda lib: lib.t_identity.each(), {"a": 1}),
    (lambda lib: lib.t_identity.tree(), {"b": [1, 2], "a": 3}),
    (lambda lib: lib.t_identity.tree().filter(lambda x: x > 1), {"b": [1, 2], "a": 3}),
    (lambda lib: lib.t_identity[0], (1, 2)),
    (lambda lib: lib.t_identity.merge(lib.t_identity["a"], lib.t_identity["b"]), {"a": 1, "b": 2, "c": 3}),
    (lambda lib: lib.ModelParamTraversal(lambda path, x: "kernel" in path), {"d": {"kernel": 1, "bias": 2, "e": {}}}),
]


@pytest.mark.filterwarnings("ignore:.*Traversal. will be deprecated:DeprecationWarning")
@pytest.mark.parametrize(("make", "tree"), TRAVERSALS)
def test_traversals(make, tree):
    mine, flax = make(ours), make(theirs)
    assert list(mine.iterate(tree)) == list(flax.iterate(tree))
    assert mine.update(lambda x: x * 10, tree) == flax.update(lambda x: x * 10, tree)


@pytest.mark.filterwarnings("ignore:.*Traversal. will be deprecated:DeprecationWarning")
def test_slices_are_read_alike():
    # Flax's update hands the whole slice to the function, where its iterate gives the entries; here they agree.
    assert list(ours.t_identity[0:2].iterate([1, 2, 3])) == list(theirs.t_identity[0:2].iterate([1, 2, 3]))
    assert ours.t_identity[0:2].update(lambda x: -x, [1, 2, 3]) == [-1, -2, 3]
