"""Paths and nested dictionaries."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fx_nnx.errors import StateStructureError

__all__ = ["Path", "as_int_key", "flatten", "key_order", "nest", "nested_dicts", "sorted_keys", "value_twice"]

Path = tuple[Any, ...]


def key_order(key: Any) -> tuple[int, Any]:
    """Orders keys of mixed types: integers before text before anything else."""
    if isinstance(key, int):
        return 0, key
    return (1, key) if isinstance(key, str) else (2, str(key))


def sorted_keys(keys: Any) -> list[Any]:
    """Sorts the keys of a mapping, whatever their types."""
    keys = list(keys)
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=key_order)


def as_int_key(key: Any) -> Any:
    """Returns the integer that a key is the text of; other keys as they are.

    >>> [as_int_key(key) for key in ("10", "-1", "01", "a", 2)]
    [10, -1, '01', 'a', 2]
    """
    try:
        return int(key) if isinstance(key, str) and str(int(key)) == key else key
    except ValueError:
        return key


def value_twice(path: Path) -> StateStructureError:
    """Returns the error for two values at one path, where a key may also be the text of an integer."""
    return StateStructureError("Two values of a state are at one place.", path, fix="leave one of them out")


def nested_dicts(mapping: Any) -> dict[Any, Any]:
    """Returns the same mapping as a new dict, and so for the mappings inside; other values as they are."""
    return {key: nested_dicts(v) if isinstance(v, Mapping) else v for key, v in dict(mapping).items()}


def flatten(tree: Mapping[Any, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Returns paths and leaves of a nested mapping, in the order of the keys."""
    for key in sorted_keys(tree):
        value = tree[key]
        if isinstance(value, Mapping):
            yield from flatten(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def nest(paths: Sequence[Path], leaves: Sequence[Any]) -> dict[Any, Any]:
    """Creates a nested dictionary of paths and leaves.

    Raises:
      StateStructureError: a path is the beginning of another one.

    >>> nest([("a", "b"), ("c",)], [1, 2])
    {'a': {'b': 1}, 'c': 2}
    """
    tree: dict[Any, Any] = {}
    parents: dict[Path, dict[Any, Any]] = {(): tree}
    for path, leaf in zip(paths, leaves):
        parent = parents.get(path[:-1])
        if parent is None:
            parent = _grow(tree, parents, path)
        if path[-1] in parent:
            raise value_twice(path)
        parent[path[-1]] = leaf
    return tree


def _grow(tree: dict[Any, Any], parents: dict[Path, dict[Any, Any]], path: Path) -> dict[Any, Any]:
    node = tree
    for depth, key in enumerate(path[:-1], 1):
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise StateStructureError("A state has a value where it also has a group of values.", path[:depth])
        parents[path[:depth]] = node
    return node
