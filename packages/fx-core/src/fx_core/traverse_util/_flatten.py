"""Nested dicts as flat ones, keyed by path, and back."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fx_core.errors.kinds import ArgumentError, ArgumentTypeError
from fx_core.errors.tree import flatten_type
from fx_core.frozen_dict import FrozenDict
from fx_core.typing import PathParts

IsLeaf = Callable[[tuple[Any, ...], Mapping[Any, Any]], bool]


class _EmptyNode:
    """What stands for an empty dict in a flat one; there is one of it, equal in every process."""

    def __repr__(self) -> str:
        return "empty_node"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _EmptyNode)

    def __hash__(self) -> int:
        return hash(_EmptyNode)


empty_node = _EmptyNode()
"""Stands for an empty dict in the result of `flatten_dict`."""


def flatten_dict(
    xs: Mapping[Any, Any], keep_empty_nodes: bool = False, is_leaf: IsLeaf | None = None, sep: str | None = None
) -> dict[Any, Any]:
    """Flattens a nested dict into one whose keys are paths.

    >>> flatten_dict({"a": {"b": 1, "c": {}}, "d": 2})
    {('a', 'b'): 1, ('d',): 2}
    >>> flatten_dict({"a": {"b": 1, "c": {}}, "d": 2}, keep_empty_nodes=True, sep="/")
    {'a/b': 1, 'a/c': empty_node, 'd': 2}

    Args:
      xs: a dict or `FrozenDict`, nested.
      keep_empty_nodes: whether empty dicts inside become `empty_node`; they are left out otherwise.
      is_leaf: called with the path and the dict for each dict, the outermost (with an empty path) included; where it
        gives True the dict is kept whole.
      sep: joins the keys, which must be strings then; None for tuples.

    Returns:
      The flat dict.

    Raises:
      ArgumentTypeError: ``xs`` is no dict.
      ArgumentTypeError: ``sep`` is given and a key is no string.
    """
    if not isinstance(xs, dict | FrozenDict):
        raise flatten_type("flatten_dict", xs)
    return {_join(path, sep): value for path, value in _leaves((), xs, keep_empty_nodes, is_leaf)}


def unflatten_dict(xs: Mapping[Any, Any], sep: str | None = None) -> Any:
    """Returns the inverse of `flatten_dict`.

    >>> unflatten_dict({("a", "b"): 1, ("a", "c"): empty_node})
    {'a': {'b': 1, 'c': {}}}
    >>> unflatten_dict({"a/b": 1}, sep="/")
    {'a': {'b': 1}}

    Args:
      xs: a flat dict.
      sep: what joins the keys; None when they are tuples.

    Returns:
      The nested dict. The value itself when the only path is the empty tuple.

    Raises:
      ArgumentTypeError: ``xs`` is no dict.
      ArgumentTypeError: keys are not tuples, or not strings when ``sep`` is given.
      ArgumentError: a path has a value, and there are values below it.
    """
    if not isinstance(xs, dict | FrozenDict):
        raise flatten_type("unflatten_dict", xs)
    if () in xs and sep is None:
        if len(xs) > 1:
            raise _unflatten_conflict(())
        return {} if isinstance(xs[()], _EmptyNode) else xs[()]
    root: dict[Any, Any] = {}
    ours = {id(root)}  # dicts made here, to be told from dicts that are values
    for key, value in xs.items():
        _put(root, _split(key, sep), value, ours)
    return root


def path_aware_map(f: Callable[[PathParts, Any], Any], nested_dict: Mapping[Any, Any]) -> Any:
    """Applies a function of path and value to the leaves of a nested dict; empty dicts stay.

    >>> path_aware_map(lambda path, x: 0 if "bias" in path else x, {"dense": {"kernel": 1, "bias": 2}})
    {'dense': {'kernel': 1, 'bias': 0}}

    Args:
      f: takes the path as a tuple of keys and the value, gives the new value.
      nested_dict: a dict or `FrozenDict`, nested.

    Raises:
      ArgumentTypeError: ``nested_dict`` is no dict.
    """
    flat = flatten_dict(nested_dict, keep_empty_nodes=True)
    return unflatten_dict({path: x if isinstance(x, _EmptyNode) else f(path, x) for path, x in flat.items()})


def _leaves(path: tuple[Any, ...], xs: Any, keep_empty: bool, is_leaf: IsLeaf | None) -> Iterator[tuple[Any, Any]]:
    if not isinstance(xs, dict | FrozenDict) or (is_leaf is not None and is_leaf(path, xs)):
        yield path, xs
    elif xs:
        for key, value in xs.items():
            yield from _leaves((*path, key), value, keep_empty, is_leaf)
    elif path and keep_empty:
        yield path, empty_node


def _join(path: tuple[Any, ...], sep: str | None) -> Any:
    if sep is None:
        return path
    for key in path:
        if not isinstance(key, str):
            raise _flatten_key(key, sep)
    return sep.join(path)


def _split(key: Any, sep: str | None) -> tuple[Any, ...]:
    if sep is None and isinstance(key, tuple):
        return key
    if sep is not None and isinstance(key, str):
        return tuple(key.split(sep))
    raise _flatten_key(key, sep)


def _put(root: dict[Any, Any], path: tuple[Any, ...], value: Any, ours: set[int]) -> None:
    node = root
    for depth, part in enumerate(path[:-1]):
        if part not in node:
            node[part] = {}
            ours.add(id(node[part]))
        elif id(node[part]) not in ours:
            raise _unflatten_conflict(path[: depth + 1])
        node = node[part]
    last, empty = path[-1], isinstance(value, _EmptyNode)
    if last not in node:
        node[last] = {} if empty else value
        if empty:
            ours.add(id(node[last]))
    elif not (empty and id(node[last]) in ours):
        raise _unflatten_conflict(path)


def _flatten_key(key: Any, sep: str | None) -> ArgumentTypeError:
    wanted = "a tuple of keys" if sep is None else "string keys"
    fix = "Pass the separator of the keys as sep." if sep is None else "Leave out sep, and keys become tuples."
    return ArgumentTypeError(f"Key {key!r} does not fit sep={sep!r}.", expected=wanted, got=type(key).__name__, fix=fix)


def _unflatten_conflict(key: Any) -> ArgumentError:
    return ArgumentError(
        "A path is a value and a dict at the same time.",
        path=repr(key),
        expected="each path either a value or a dict",
        got=f"a value at {key!r} and values below it",
        fix="Rename one of them.",
    )
