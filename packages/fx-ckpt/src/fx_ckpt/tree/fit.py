"""Comparing a stored tree with a target, and filling the target."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from fx_ckpt.errors import RestoreMismatchError
from fx_ckpt.tree.apart import ROOT, check_depth, child_state, root_state
from fx_ckpt.tree.casting import cast_leaf, converted
from fx_ckpt.tree.leaves import decode, describe
from fx_ckpt.tree.nodes import Opened, open_node
from fx_ckpt.tree.selection import ChosenPaths
from fx_ckpt.tree.shared import Shared
from fx_ckpt.tree.structure import Branch, Leaf, Node, Path, render, state_names, step_of

_CATEGORIES = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}


def compare(node: Node, target: Any, where: str, chosen: ChosenPaths | None = None, cast: Any = None) -> None:
    """Compares the structure of a checkpoint with a target.

    Args:
      node: the stored structure.
      target: a tree; its arrays may be `jax.ShapeDtypeStruct`.
      where: the checkpoint, for the error.
      chosen: which part to compare.
      cast: which other dtypes are right, too; see `fx_ckpt.tree.casting`.

    Raises:
      RestoreMismatchError: they differ; it lists every place.
    """
    chosen = chosen or ChosenPaths()
    saved = {path: end for path, end in _saved_ends(node, ()) if path in chosen}
    wanted = {path: end for path, end in _wanted_ends(target, ()) if path in chosen}
    different = [
        f"{render(path)}: saved {saved[path]}, target {wanted[path]}"
        for path in saved.keys() & wanted.keys()
        if not _fits(_cast(saved[path], wanted[path], cast), wanted[path])
    ]
    missing, extra = wanted.keys() - saved.keys(), saved.keys() - wanted.keys()
    different += _same_but_for_keys(missing, extra)
    different += _quantized(missing, extra, "saved", "restore into a template that is quantized alike")
    different += _quantized(extra, missing, "target", "restore into the arrays")
    if missing or extra or different:
        gone = sorted(f"{render(path)} ({wanted[path]})" for path in missing)
        more = sorted(f"{render(path)} ({saved[path]})" for path in extra)
        raise RestoreMismatchError(where, gone, more, sorted(different))


def fill(
    node: Node,
    state: Mapping[str, Any],
    target: Any,
    chosen: ChosenPaths | None = None,
    cast: Any = None,
    mapped: bool = False,
) -> Any:
    """Returns a tree like the target with the stored values; `compare` has found no difference.

    What was not chosen stays as it is in the target. What is one object in it, such as a parameter of a module that is
    tied to another, is one object in the result.

    Raises:
      RestoreMismatchError: the checkpoint has different values for what is one object.
      DamagedDataError: the state dictionary does not have the structure.
      CastError: JAX would cast an array that the target wants as a JAX array.
    """
    shared = Shared()
    filled = _fill(node, root_state(node, state), target, (), (chosen or ChosenPaths(), cast, mapped), shared)
    shared.check()
    return filled


def _fill(
    node: Node, state: Any, target: Any, path: Path, options: tuple[ChosenPaths, Any, bool], shared: Shared
) -> Any:
    return shared.once(target, path, lambda: _fill_anew(node, state, target, path, options, shared))


def _fill_anew(
    node: Node, state: Any, target: Any, path: Path, options: tuple[ChosenPaths, Any, bool], shared: Shared
) -> Any:
    chosen, cast, mapped = options
    opened = open_node(target)
    if opened is None or isinstance(node, Leaf):
        assert isinstance(node, Leaf)
        wanted = cast_leaf(node, describe(target, render(path)), cast) if cast is not None else node
        return decode(wanted, converted(state, node, wanted, render(path)), render(path), target, mapped)
    stored = {
        step_of(node.kind, key): (name, child) for key, name, child in zip(node.keys, state_names(node), node.children)
    }
    children = []
    for key, child in zip(opened.keys, opened.children):
        step = step_of(opened.kind, key)
        inside = (*path, step)
        if inside in chosen:
            name, below = stored[step]
            children.append(_fill(below, child_state(state, name, path), child, inside, options, shared))
        else:
            children.append(shared.kept(child, inside))
    return opened.build(children)


def _cast(saved: Leaf | str, wanted: Leaf | str, cast: Any) -> Leaf | str:
    if isinstance(saved, str) or isinstance(wanted, str):
        return saved
    return cast_leaf(saved, wanted, cast)


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


def _quantized(whole: set[Path], parts: set[Path], side: str, first: str) -> list[str]:
    """Find arrays that are quantized weights on the other side; they leave the sets."""
    lines = []
    for path in sorted(whole, key=render):
        inside = {other for other in parts if len(other) > len(path) and other[: len(path)] == path}
        names = {str(other[-1][1]) for other in inside}
        if "scale" in names and any(name.startswith("values") for name in names):
            whole.discard(path)
            parts -= inside
            then = "fx_compress.dequantize it" if side == "saved" else "fx_compress.quantize them"
            lines.append(f"{render(path)}: {side} as a quantized weight, of values and scale; {first} and {then}")
    return lines


def placement(node: Node, target: Any = None, chosen: ChosenPaths | None = None) -> dict[str, Any]:
    """Returns the state dictionary's structure with a `jax.ShapeDtypeStruct` per array, which says where it is to go.

    What was not chosen is missing. Without a target there are None in place of arrays.
    """
    placed = _placement(node, target, (), chosen or ChosenPaths())
    return placed if isinstance(node, Branch) else {ROOT: placed}


def _placement(node: Node, target: Any, path: Path, chosen: ChosenPaths) -> Any:
    if isinstance(node, Leaf):
        return _place(target) if node.kind == "array" and not node.raw else None
    opened = None if target is None else open_node(target)
    steps = [] if opened is None else [step_of(opened.kind, key) for key in opened.keys]
    children = {} if opened is None else dict(zip(steps, opened.children))
    placed = {}
    for name, key, child in zip(state_names(node), node.keys, node.children):
        step = step_of(node.kind, key)
        if (*path, step) in chosen:
            placed[name] = _placement(child, children.get(step), (*path, step), chosen)
    return placed


def _place(like: Any) -> jax.ShapeDtypeStruct | None:
    if isinstance(like, jax.ShapeDtypeStruct):
        return like
    if not isinstance(like, jax.Array):
        return None
    # An uncommitted array sits on the default device by chance; its place is nobody's wish.
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=like.sharding if like.committed else None)
