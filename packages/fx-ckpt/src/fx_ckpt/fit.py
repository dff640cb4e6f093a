"""Comparing a stored tree with a target, and filling the target."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fx_ckpt.errors import RestoreMismatchError
from fx_ckpt.leaves import decode, describe
from fx_ckpt.nodes import Opened, open_node
from fx_ckpt.structure import Branch, Leaf, Node, render, state_names, step_of
from fx_ckpt.tree import ROOT, Path, check_depth, child_state, root_state

_CATEGORIES = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}


def compare(node: Node, target: Any, where: str) -> None:
    """Compare the structure of a checkpoint with a target.

    Args:
      node: the stored structure.
      target: a tree; its arrays may be `jax.ShapeDtypeStruct`.
      where: the checkpoint, for the error.

    Raises:
      RestoreMismatchError: they differ; it lists every place.
    """
    saved, wanted = dict(_saved_ends(node, ())), dict(_wanted_ends(target, ()))
    different = [
        f"{render(path)}: saved {saved[path]}, target {wanted[path]}"
        for path in saved.keys() & wanted.keys()
        if not _fits(saved[path], wanted[path])
    ]
    missing, extra = wanted.keys() - saved.keys(), saved.keys() - wanted.keys()
    different += _same_but_for_keys(missing, extra)
    if missing or extra or different:
        gone = sorted(f"{render(path)} ({wanted[path]})" for path in missing)
        more = sorted(f"{render(path)} ({saved[path]})" for path in extra)
        raise RestoreMismatchError(where, gone, more, sorted(different))


def fill(node: Node, state: Mapping[str, Any], target: Any) -> Any:
    """Give a tree like the target with the stored values; `compare` has found no difference.

    Raises:
      BackendDataError: the state dictionary does not have the structure.
      DtypeUnavailableError: JAX would cast an array that the target wants as a JAX array.
    """
    return _fill(node, root_state(node, state), target, ())


def _fill(node: Node, state: Any, target: Any, path: Path) -> Any:
    opened = open_node(target)
    if opened is None or isinstance(node, Leaf):
        assert isinstance(node, Leaf)
        return decode(node, state, render(path), like=target)
    stored = {
        step_of(node.kind, key): (name, child) for key, name, child in zip(node.keys, state_names(node), node.children)
    }
    children = []
    for key, child in zip(opened.keys, opened.children):
        step = step_of(opened.kind, key)
        name, below = stored[step]
        children.append(_fill(below, child_state(state, name, path), child, (*path, step)))
    return opened.build(children)


def _saved_ends(node: Node, path: Path) -> Iterator[tuple[Path, Leaf | str]]:
    if isinstance(node, Leaf):
        yield path, node
    elif not node.keys:
        yield path, _empty(node)
    else:
        for key, child in zip(node.keys, node.children):
            yield from _saved_ends(child, (*path, step_of(node.kind, key)))


def _wanted_ends(target: Any, path: Path) -> Iterator[tuple[Path, Leaf | str]]:
    opened = open_node(target, render(path))
    if opened is None:
        yield path, describe(target, render(path))
    elif not opened.keys:
        yield path, _empty(opened)
    else:
        check_depth(path)
        for key, child in zip(opened.keys, opened.children):
            yield from _wanted_ends(child, (*path, step_of(opened.kind, key)))


def _empty(container: Branch | Opened) -> str:
    # A class without fields says as little as an empty tuple: optax has used both for "no state".
    return "empty dictionary" if container.kind == "mapping" else "empty sequence or class"


def _fits(saved: Leaf | str, wanted: Leaf | str) -> bool:
    if isinstance(saved, str) or isinstance(wanted, str):
        return saved == wanted
    if saved.kind == wanted.kind:
        return (saved.dtype, saved.shape, saved.impl) == (wanted.dtype, wanted.shape, wanted.impl)
    # A counter that starts as a Python number is an array after the first step. What was saved comes back unchanged.
    category = _category(saved)
    return category is not None and category == _category(wanted)


def _category(leaf: Leaf) -> str | None:
    if leaf.kind in _CATEGORIES.values():
        return leaf.kind
    if leaf.kind != "array" or leaf.shape or leaf.raw:
        return None
    return _CATEGORIES.get(np.dtype(leaf.dtype).kind)


def _same_but_for_keys(missing: set[Path], extra: set[Path]) -> list[str]:
    """Find paths that differ only in the kind of a key, such as 1 and "1"; they leave the other two sets."""
    by_text = {tuple(str(key) for _, key in path): path for path in extra}
    lines = []
    for path in sorted(missing, key=render):
        other = by_text.get(tuple(str(key) for _, key in path))
        if other is not None:
            missing.discard(path)
            extra.discard(other)
            lines.append(f"{render(path)}: other kinds of keys, saved {render(other)}")
    return lines


def placement(node: Node, target: Any) -> dict[str, Any]:
    """Give the state dictionary's structure with a `jax.ShapeDtypeStruct` per array, which says where it is to go."""
    placed = _placement(node, target)
    return placed if isinstance(node, Branch) else {ROOT: placed}


def _placement(node: Node, target: Any) -> Any:
    opened = open_node(target)
    if isinstance(node, Leaf) or opened is None:
        return _place(target) if isinstance(node, Leaf) and node.kind == "array" and not node.raw else None
    children = {step_of(opened.kind, key): child for key, child in zip(opened.keys, opened.children)}
    return {
        name: _placement(child, children[step_of(node.kind, key)])
        for name, key, child in zip(state_names(node), node.keys, node.children)
    }


def _place(like: Any) -> jax.ShapeDtypeStruct | None:
    if isinstance(like, jax.ShapeDtypeStruct):
        return like
    if not isinstance(like, jax.Array):
        return None
    # An uncommitted array sits on the default device by chance; its place is nobody's wish.
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=like.sharding if like.committed else None)
