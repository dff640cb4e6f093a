"""What a node holds, by name."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax

from fx_nnx.graph.kinds import kind_of
from fx_nnx.objects.pytree import attributes_of
from fx_nnx.states.paths import sorted_keys

__all__ = ["children_of", "one_level"]


def children_of(node: Any) -> Iterable[tuple[Any, Any]]:
    """Give names and values of what a node holds, static attributes included, sorted."""
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
    """Take a pytree apart into keys, children and tree definition."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda x: x is not value)
    children = {_plain_key(path[0]): child for path, child in pairs}
    return list(children), MappingProxyType(children), treedef


def _plain_key(key: Any) -> Any:
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return getattr(key, name)
    return str(key)
