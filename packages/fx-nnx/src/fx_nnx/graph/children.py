"""What a node holds, by name."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from fx_nnx.graph.kinds import kind_of
from fx_nnx.objects.pytree import attributes_of
from fx_nnx.states.paths import sorted_keys

__all__ = ["Level", "children_of", "one_level", "plain_key"]


def children_of(node: Any) -> Iterable[tuple[Any, Any]]:
    """Returns names and values of what a node holds, static attributes included, sorted."""
    if node is None:
        return ()
    kind = kind_of(node)
    if kind == "object":
        attributes = attributes_of(node)
        return [(key, attributes[key]) for key in sorted_keys(attributes)]
    if kind == "dict":
        return [(key, node[key]) for key in sorted_keys(node)]
    if kind in ("list", "tuple"):
        return enumerate(node)
    return one_level(node)[1].items() if kind == "pytree" else ()


def one_level(value: Any) -> tuple[Sequence[Any], Mapping[Any, Any], Any]:
    """Takes a pytree apart into keys, children by key, and how to put it together: keys and children are sorted."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda x: x is not value)
    names = [plain_key(path[0]) for path, _ in pairs]
    children = dict(zip(names, (child for _, child in pairs)))
    keys = sorted_keys(names)
    return keys, MappingProxyType({key: children[key] for key in keys}), Level(treedef, tuple(names))


class Level(NamedTuple):
    """How to put a pytree together.

    Attributes:
      treedef: its structure, with its children as leaves.
      keys: the keys of these, in its own order.
    """

    treedef: Any
    keys: tuple[Any, ...]

    def make(self, children: Mapping[Any, Any]) -> Any:
        """Creates it of its children by key."""
        return jax.tree_util.tree_unflatten(self.treedef, [children[key] for key in self.keys])


def plain_key(key: Any) -> Any:
    """Returns the name, key or number in the key of a path of JAX."""
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return getattr(key, name)
    return str(key)
