"""Pytree dataclasses have the leaves, paths and state dictionaries that Flax's have."""

import inspect

import flax.serialization
import flax.struct
import fx_core.serialization
import fx_core.struct
import jax

LIBRARIES = ((fx_core.struct, fx_core.serialization), (flax.struct, flax.serialization))


def classes(struct):
    @struct.dataclass
    class Point:
        x: object
        y: str = struct.field(pytree_node=False, default="s")
        _private: int = 3

    class Node(struct.PyTreeNode):
        a: object
        b: object = 3

    class Keyword(Node, kw_only=True):
        c: int

    return Point, Node, Keyword


def described(struct, serialization):
    point, node, keyword = classes(struct)
    objects = [point(1), point([2, {"k": 3}], y="q"), node({}), keyword(1, c=4)]
    return [
        (
            [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(obj)],
            serialization.to_state_dict(obj),
            list(inspect.signature(type(obj)).parameters),
            repr(obj.replace(**{next(iter(inspect.signature(type(obj)).parameters)): 9})),
        )
        for obj in objects
    ]


def test_leaves_states_and_signatures():
    mine, flax = (described(*library) for library in LIBRARIES)
    assert mine == flax
