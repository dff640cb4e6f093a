"""Collections of plugins that checkpoints leave out: a target keeps its own values of them."""

from collections.abc import Callable, Iterator
from typing import Any

from fx_ckpt.tree.nodes import open_node
from fx_ckpt.tree.selection import ChosenPaths
from fx_ckpt.tree.structure import Leaf, Node, Path, step_of

__all__ = ["LeavesOut", "kept_by_target"]

LeavesOut = Callable[[Any, Any], bool]
"""Whether what a container has under a key is not stored; see `fx_core.collections.not_saved`."""


def kept_by_target(chosen: ChosenPaths, node: Node, target: Any, leaves_out: LeavesOut | None) -> ChosenPaths:
    """Returns what is to be restored, without the collections that are not saved and that the checkpoint has not.

    Args:
      chosen: what was asked for.
      node: the stored structure.
      target: a tree with values of its own.
      leaves_out: what is not stored; None for nothing.
    """
    if leaves_out is None or target is None:
        return chosen
    wanted = {path: unsaved for path, unsaved in _wanted(target, (), None, leaves_out) if path in chosen}
    saved = {path: end for path, end in _saved(node, ()) if path in chosen}
    filled = {path[:length] for path, is_leaf in saved.items() if is_leaf for length in range(len(path) + 1)}
    kept = {path for path, unsaved in wanted.items() if unsaved is not None and unsaved not in filled}
    above = {path[:length] for path in kept for length in range(len(path) + 1)}
    # What holds nothing else is stored as an empty container.
    ends = (wanted.keys() - kept) | {path for path in saved if path not in above}
    # Who asks for nothing but such a collection is told that it is missing.
    return ChosenPaths(ends) if kept and (ends or chosen.ends is None) else chosen


def _wanted(target: Any, path: Path, unsaved: Path | None, leaves_out: LeavesOut) -> Iterator[tuple[Path, Path | None]]:
    """Yields the ends of a target, each with the path of the collection that is not saved and that it is in."""
    opened = open_node(target)
    if opened is None or not opened.keys:
        yield path, unsaved
        return
    for key, child in zip(opened.keys, opened.children):
        below = (*path, step_of(opened.kind, key))
        within = below if unsaved is None and leaves_out(key, child) else unsaved
        yield from _wanted(child, below, within, leaves_out)


def _saved(node: Node, path: Path) -> Iterator[tuple[Path, bool]]:
    if isinstance(node, Leaf) or not node.keys:
        yield path, isinstance(node, Leaf)
        return
    for key, child in zip(node.keys, node.children):
        yield from _saved(child, (*path, step_of(node.kind, key)))
