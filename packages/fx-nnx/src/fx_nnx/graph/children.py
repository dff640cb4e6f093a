"""What a node holds, by name."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from fx_nnx.errors import StateStructureError
from fx_nnx.graph.kinds import kind_of
from fx_nnx.links import announce
from fx_nnx.objects.fields import exchangeable
from fx_nnx.objects.pytree import attributes_of
from fx_nnx.paths import sorted_keys

__all__ = ["Item", "Level", "children_of", "one_level", "plain_key"]


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


class Item:
    """Where a leaf that is not a variable lives: an attribute or an item of a container."""

    __slots__ = ("container", "key", "owner")

    def __init__(self, container: Any, key: Any, owner: Any = None):
        self.container, self.key, self.owner = container, key, owner

    def read(self) -> Any:
        """Returns the value."""
        return self.container[self.key]

    _raw_value = property(read)
    """The value under the name that variables have it under."""

    def write(self, value: Any) -> None:
        """Puts a value in the place of an earlier leaf, which changes no structure."""
        if self.owner is not None:
            self.owner._nnx_check_trace()
        old = self.read()
        try:
            self.container[self.key] = value
        except TypeError:
            what = f"An array in an immutable {type(self.container).__name__} cannot be replaced."
            raise StateStructureError(what, (self.key,), expected="a list, a dict, or a Variable") from None
        if self.owner is not None and not exchangeable(old, value):
            announce(self.owner)


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
