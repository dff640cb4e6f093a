"""A tree, taken apart into structure and state dictionary, and put together again."""

from collections.abc import Mapping
from typing import Any

from fx_ckpt.errors import inconsistent_data, invalid_structure
from fx_ckpt.tree.casting import cast_leaf, converted
from fx_ckpt.tree.leaves import decode, describe, encode
from fx_ckpt.tree.nodes import open_node
from fx_ckpt.tree.selection import ChosenPaths
from fx_ckpt.tree.structure import DEEPEST, Branch, Leaf, Node, Path, render, state_names, step_of
from fx_ckpt.tree.unsaved import LeavesOut

ROOT = "value"
"""Name of the only entry of the state dictionary of a tree that is one leaf."""


def take_apart(
    tree: Any, leaves_out: LeavesOut | None = None, left_out: list[str] | None = None
) -> tuple[Node, dict[str, Any]]:
    """Returns the structure of a tree, and a state dictionary with what a backend is to store.

    Args:
      tree: the tree.
      leaves_out: what is not stored; in a sequence an empty container takes its place.
      left_out: gets the paths of what is not stored.

    Raises:
      UnsupportedLeafError: a leaf cannot be stored exactly.
      UnsupportedLeafError: a dictionary key cannot be stored exactly.
      DamagedDataError: the tree is nested too deep, or contains itself.
    """
    node, state = _take_apart(tree, (), leaves_out, [] if left_out is None else left_out)
    return node, state if isinstance(node, Branch) else {ROOT: state}


def described(tree: Any) -> Node:
    """Returns the structure of a tree, whose arrays may be `jax.ShapeDtypeStruct`.

    Raises:
      UnsupportedLeafError: a leaf cannot be stored.
      UnsupportedLeafError: a dictionary key cannot be stored.
      DamagedDataError: the tree is nested too deep, or contains itself.
    """
    return _described(tree, ())


def _described(tree: Any, path: Path) -> Node:
    opened = open_node(tree, render(path) if path else "")
    if opened is None:
        return describe(tree, render(path))
    check_depth(path)
    children = [_described(c, (*path, step_of(opened.kind, k))) for k, c in zip(opened.keys, opened.children)]
    return Branch(opened.kind, opened.type, opened.keys, tuple(children))


def put_together(
    node: Node, state: Mapping[str, Any], wanted: ChosenPaths | None = None, cast: Any = None, mapped: bool = False
) -> Any:
    """Returns the tree of a structure and a state dictionary, with plain containers.

    Dictionaries, lists and tuples come back as such; named tuples, dataclasses and other classes as dictionaries of
    their fields, since nothing is imported that a file names.

    Args:
      node: the structure.
      state: the state dictionary.
      wanted: which part; what is left of a sequence with gaps is a dictionary of positions.
      cast: a dtype for all arrays of floating-point numbers.
      mapped: NumPy arrays may be read-only.

    Raises:
      DamagedDataError: the state dictionary does not have the structure.
    """
    return _put_together(node, root_state(node, state), (), wanted or ChosenPaths(), cast, mapped)


def child_state(state: Any, name: str, path: Path) -> Any:
    """Returns an entry of a state dictionary.

    Raises:
      DamagedDataError: there is none.
    """
    if not isinstance(state, Mapping) or name not in state:
        raise inconsistent_data(render(path), f"an entry {name!r}", type(state).__name__)
    return state[name]


def root_state(node: Node, state: Mapping[str, Any]) -> Any:
    """Returns what the state dictionary holds for the root of the tree."""
    return state if isinstance(node, Branch) else child_state(state, ROOT, ())


def check_depth(path: Path) -> None:
    """Refuses what is nested too deep.

    Raises:
      DamagedDataError: it is.
    """
    if len(path) > DEEPEST:
        raise invalid_structure(f"it is nested more than {DEEPEST} deep, or contains itself", render(path)[:80] + "…")


def _take_apart(tree: Any, path: Path, leaves_out: LeavesOut | None, left_out: list[str]) -> tuple[Node, Any]:
    opened = open_node(tree, render(path) if path else "")
    if opened is None:
        return encode(tree, render(path))
    check_depth(path)
    keys, parts = [], []
    for key, child in zip(opened.keys, opened.children):
        below = (*path, step_of(opened.kind, key))
        if leaves_out is None or not leaves_out(key, child):
            keys.append(key)
            parts.append(_take_apart(child, below, leaves_out, left_out))
            continue
        left_out.append(render(below))
        if opened.kind == "sequence":  # whose positions have no gaps
            keys.append(key)
            parts.append((Branch("fields", f"{type(child).__module__}.{type(child).__qualname__}", (), ()), {}))
    branch = Branch(opened.kind, opened.type, tuple(keys), tuple(node for node, _ in parts))
    return branch, dict(zip(state_names(branch), (state for _, state in parts)))


def _put_together(node: Node, state: Any, path: Path, wanted: ChosenPaths, cast: Any, mapped: bool) -> Any:
    if isinstance(node, Leaf):
        cast_to = cast_leaf(node, None, cast)
        return decode(cast_to, converted(state, node, cast_to, render(path)), render(path), mapped=mapped)
    kept = {}
    for name, key, child in zip(state_names(node), node.keys, node.children):
        below = (*path, step_of(node.kind, key))
        if below in wanted:
            kept[key] = _put_together(child, child_state(state, name, path), below, wanted, cast, mapped)
    if node.kind == "sequence" and len(kept) == len(node.keys):
        return tuple(kept.values()) if node.type == "tuple" else list(kept.values())
    return kept
