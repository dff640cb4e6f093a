"""Values by path, of whatever form they come in."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from fx_transforms.errors import TransformError

from fx_nnx.graph.children import Item
from fx_nnx.graph.record import walk_graph
from fx_nnx.objects.pytree import Pytree
from fx_nnx.paths import Path
from fx_nnx.states.nesting import flatten
from fx_nnx.states.state import State
from fx_nnx.variables.variable import Variable

__all__ = ["derivative_leaves", "raw", "refuse_reduce_axes", "values_by_path"]


def refuse_reduce_axes(transform: str, axes: Sequence[Any]) -> None:
    """Refuses named axes to sum derivatives over, which would be missing from the sums."""
    if axes:
        raise TransformError(
            f"{transform} got reduce_axes, over which JAX sums no more.",
            expected="no reduce_axes",
            got=repr(axes),
            fix="sum the derivatives with jax.lax.psum",
        )


def raw(leaf: Any) -> Any:
    """Returns the value of a variable, or what is none as it is."""
    if type(leaf) is Item:
        return leaf.read()
    return leaf.get_raw_value() if isinstance(leaf, Variable) else leaf


def values_by_path(part: Any) -> dict[Path, Any]:
    """Returns the values of a state, an object, a variable, or a nested dictionary by their paths; None has none."""
    if part is None:
        return {}
    if isinstance(part, Pytree):
        record = walk_graph(part)
        return {path: raw(leaf) for path, leaf in zip(record.graphdef.paths, record.leaves)}
    if isinstance(part, State):
        return {path: raw(leaf) for path, leaf in part.flat_state()}
    if isinstance(part, Mapping):
        return {path: raw(leaf) for path, leaf in flatten(part)}
    return {(): raw(part)}


def derivative_leaves(tree: Any, like: Any, is_node: Any) -> list[Any]:
    """Returns for each leaf of ``like`` the part of ``tree`` in its place, None where ``tree`` has None."""
    if tree is None:
        return [None] * len(jax.tree.leaves(like, is_leaf=is_node))
    parts: list[Any] = []
    if type(tree) is type(like) and type(like) in (tuple, list) and len(tree) == len(like):
        for part, mine in zip(tree, like):
            parts += derivative_leaves(part, mine, is_node)
        return parts

    def add(leaf: Any, part: Any) -> None:
        del leaf
        parts.append(part)

    jax.tree.map(add, like, tree, is_leaf=is_node)
    return parts
