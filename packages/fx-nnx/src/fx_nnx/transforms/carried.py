"""What the body of a loop hands on to the next step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from fx_transforms.errors import CarryChangedError

from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.record import Walk
from fx_nnx.transforms.change import write_value
from fx_nnx.transforms.layout import Inner, read_value

__all__ = ["Returned", "take_carry"]


class Returned(NamedTuple):
    """What the body of a loop gives.

    Attributes:
      carry: what takes the place of the carried argument in the next step.
      out: the rest of the result.
    """

    carry: Any
    out: Any


def take_carry(transform: str, inner: Inner, position: int | None, carry: Any) -> None:
    """Puts what a step hands on in the place of what it got.

    Objects that were not there before give their values to the ones in their place, if they have the same structure.

    Raises:
      CarryChangedError: it has another structure.
    """
    first, old, old_def = _carried_leaves(inner, position)
    new, new_def = jax.tree.flatten(carry, is_leaf=is_node)
    if new_def != old_def or [is_node(x) for x in new] != [is_node(x) for x in old]:
        raise CarryChangedError(transform, [f"structure {_shown(old_def)} in, {_shown(new_def)} out"])
    nodes = inner.layout.nodes
    position_of_array = sum(not node for node in nodes[:first])
    moves: list[tuple[Any, Any]] = []
    for before, after in zip(old, new):
        if is_node(before):
            if after is not before:
                moves += _moves(transform, before, after)
        else:
            inner.now[position_of_array] = after
            position_of_array += 1
    for target, value in moves:
        write_value(target, value)


def _shown(treedef: Any) -> str:
    return str(treedef).removeprefix("PyTreeDef")


def _carried_leaves(inner: Inner, position: int | None) -> tuple[int, Sequence[Any], Any]:
    """Number of the first carried leaf, the leaves, and their tree."""
    if position == -1:
        leaves, treedef = jax.tree.flatten(inner.tree, is_leaf=is_node)
        return 0, leaves, treedef
    args = inner.tree[0]
    before = sum(len(jax.tree.leaves(arg, is_leaf=is_node)) for arg in args[:position])
    leaves, treedef = jax.tree.flatten(args[position], is_leaf=is_node)
    return before, leaves, treedef


def _moves(transform: str, before: Any, after: Any) -> list[tuple[Any, Any]]:
    """Pairs of a place and its new value, where one object takes the place of another."""
    walks = [Walk(), Walk()]
    for walk, root in zip(walks, (before, after)):
        walk.root(root, ())
    old, new = walks
    if old.graphdef() != new.graphdef():
        raise CarryChangedError(
            transform, [f"{type(before).__name__} in, {type(after).__name__} of another structure out"]
        )
    return [(target, read_value(source)) for target, source in zip(old.leaves, new.leaves)]
