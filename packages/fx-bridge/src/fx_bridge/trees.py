"""Linen's nested collections as places, and back. A place is a collection and a path in it."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CollectionPath", "Path", "leaf_at", "leaves_of", "nest", "text", "with_leaf"]

Path = tuple[Any, ...]
CollectionPath = tuple[str, Path]

ABSENT: Any = object()


def leaves_of(variables: Mapping[str, Any]) -> dict[CollectionPath, Any]:
    """Returns the leaves of collections by place; boxes are leaves.

    >>> leaves_of({"params": {"dense": {"kernel": 1}}})
    {('params', ('dense', 'kernel')): 1}
    """
    leaves: dict[CollectionPath, Any] = {}

    def visit(collection: str, tree: Any, path: Path) -> None:
        if isinstance(tree, Mapping):
            for key, value in tree.items():
                visit(collection, value, (*path, key))
        else:
            leaves[collection, path] = tree

    for collection, tree in variables.items():
        visit(collection, tree, ())
    return leaves


def nest(leaves: Mapping[CollectionPath, Any], leaf: Callable[[Any], Any] = lambda x: x) -> dict[str, Any]:
    """Returns collections as nested dictionaries.

    Args:
      leaves: by place.
      leaf: what to do to each leaf.
    """
    variables: dict[str, Any] = {}
    for (collection, path), value in leaves.items():
        node = variables.setdefault(collection, {})
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf(value)
    return variables


def text(place: CollectionPath) -> str:
    """Writes a place, such as ``params/dense/kernel``."""
    return "/".join([place[0], *map(str, place[1])])


def leaf_at(tree: Any, path: Path) -> Any:
    """Returns what is at a path, or ``ABSENT``. Numbers of items may be text, as some file formats have it."""
    for key in path:
        if not isinstance(tree, Mapping):
            return ABSENT
        if key in tree:
            tree = tree[key]
        elif isinstance(key, int) and str(key) in tree:
            tree = tree[str(key)]
        else:
            return ABSENT
    return tree


def with_leaf(tree: Any, path: Path, leaf: Any) -> Any:
    """Returns nested dictionaries with another leaf at a path; those given are not changed."""
    if not path:
        return leaf
    key, made = path[0], dict(tree) if isinstance(tree, Mapping) else {}
    if key not in made and isinstance(key, int) and str(key) in made:
        key = str(key)
    made[key] = with_leaf(made.get(key), path[1:], leaf)
    return made
