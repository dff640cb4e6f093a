"""Opening one container of a live tree: its kind, its keys, its children, and how to build it anew."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from fx_ckpt.errors import ROOT, UnsupportedLeafError
from fx_ckpt.tree.structure import BranchKind, Key, is_text

_LEAVES = (type(None), bool, int, float, complex, str, bytes, np.ndarray, np.generic, jax.Array, jax.ShapeDtypeStruct)


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A container, opened.

    Attributes:
      kind: whether its children have keys, positions or field names.
      type: its Python type as text.
      keys: keys, positions or names, in order.
      children: what is below, in the same order.
      build: makes such a container from other children.
    """

    kind: BranchKind
    type: str
    keys: tuple[Key, ...]
    children: Sequence[Any]
    build: Callable[[Sequence[Any]], Any]


def open_node(tree: Any, path: str = "") -> Opened | None:
    """Opens a container; None for a leaf, or for what JAX knows no containers of.

    Raises:
      UnsupportedLeafError: a dictionary key cannot be stored.
    """
    if type(tree) is dict:
        keys = tuple(tree)
        for key in keys:
            _check_key(key, path)
        return Opened("mapping", "dict", keys, list(tree.values()), lambda children: dict(zip(keys, children)))
    if type(tree) in (list, tuple):
        return Opened("sequence", type(tree).__name__, tuple(range(len(tree))), tree, type(tree))
    return None if isinstance(tree, _LEAVES) and not isinstance(tree, tuple) else _open_registered(tree, path)


def _open_registered(tree: Any, path: str) -> Opened | None:
    # One level only: whatever is not the node itself counts as a leaf, None included.
    found, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)
    if found and not found[0][0]:
        return None
    entries = [keys[0] for keys, _ in found]
    kind, keys = _kind_and_keys(entries, tree)
    for key in keys:
        _check_key(key, path)
    name = f"{type(tree).__module__}.{type(tree).__qualname__}"
    return Opened(kind, name, keys, [child for _, child in found], treedef.unflatten)


def _kind_and_keys(entries: Sequence[Any], tree: Any) -> tuple[BranchKind, tuple[Any, ...]]:
    if not entries:
        return ("mapping" if hasattr(tree, "keys") else "fields"), ()
    if all(isinstance(entry, jax.tree_util.DictKey) for entry in entries):
        return "mapping", tuple(entry.key for entry in entries)
    if all(isinstance(entry, jax.tree_util.GetAttrKey) for entry in entries):
        return "fields", tuple(entry.name for entry in entries)
    return "sequence", tuple(range(len(entries)))


def _check_key(key: Any, path: str) -> None:
    if type(key) is tuple:
        for part in key:
            _check_key(part, path)
    elif type(key) is str:
        if not is_text(key):
            raise _unsupported_key(path, key)
    elif not (key is None or type(key) in (int, bool) or (type(key) is float and key - key == 0)):
        raise _unsupported_key(path, key)


def _unsupported_key(path: str, key: Any) -> UnsupportedLeafError:
    return UnsupportedLeafError(
        "This dictionary key cannot be stored in a checkpoint.",
        path=path or ROOT,
        expected="strings, integers, floats, booleans, None, and tuples of these",
        got=f"{key!r} of type {type(key).__name__}",
        fix="Use strings of whole characters as keys.",
    )
