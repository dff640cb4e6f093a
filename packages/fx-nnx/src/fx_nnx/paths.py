"""Paths: the keys that lead to a value, their order, and how messages write them."""

from collections.abc import Sequence
from typing import Any

import jax

__all__ = ["Path", "RootName", "as_int_key", "key_order", "show_path", "sorted_keys"]

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


class RootName(tuple[Any, ...]):
    """The path of an argument or result in its tree, as JAX gives it: the first part of the paths in a transform."""

    __slots__ = ()


def show_path(path: Sequence[Any]) -> str:
    """Writes a path of attributes and items as ``/encoder/layers/0``, in an argument as ``argument 0/layers/0``."""
    if not path or type(path[0]) is not RootName:
        return "/" + "/".join(map(str, path))
    (first, *rest), shown = path[0], jax.tree_util.keystr
    text = shown(path[0])
    if getattr(first, "name", None) == "result":
        text = "result" + shown(tuple(rest))
    elif rest and getattr(first, "idx", None) == 0:
        text = f"argument {rest[0].idx}" + shown(tuple(rest[1:]))
    elif rest and getattr(first, "idx", None) == 1:
        text = f"argument {rest[0].key!r}" + shown(tuple(rest[1:]))
    elif rest and getattr(first, "idx", None) == 2:
        text = "what the function is bound to"
    return "/".join((text, *map(str, path[1:])))
