"""Prefixes for the variables of one model."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from fx_transforms.errors import aliased_state

from fx_nnx.errors import show_path
from fx_nnx.filters import Filter
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.children import plain_key
from fx_nnx.graph.kinds import is_node, kind_of
from fx_nnx.graph.record import Walk, record_for, record_of
from fx_nnx.modes import set_graph_mode
from fx_nnx.states.paths import Path
from fx_nnx.transforms.layout import held
from fx_nnx.transforms.prefixes import StateAxes, remember_rules

__all__ = ["prefix"]


def prefix(node: Any, filter_map: Mapping[Filter, Any] | Callable[..., Any], /, *, graph: bool | None = None) -> Any:
    """Returns a model of the same structure with entries in the places of its variables.

    Transforms take it as the entry of the argument, in the place of a `StateAxes`.

    >>> import fx_nnx as nnx
    >>> axes = prefix(nnx.Dict(w=nnx.Param(1), n=nnx.BatchStat(2)), {nnx.Param: 0, ...: None})
    >>> axes.w, axes.n
    (0, None)

    Args:
      node: the model.
      filter_map: entries by filter, of which the first that matches counts; or a function of path and variable. A
        variable that several arguments hold has an entry in each of them; transforms refuse it if these differ.
      graph: as in `fx_nnx.split`.

    Raises:
      PrefixError: no filter matches a variable.
      TransformError: what is on several paths of one object, or an object, would have different entries on them.
    """
    axes = None if callable(filter_map) else StateAxes(filter_map)
    entry: Any = filter_map if axes is None else axes.map_prefix
    if set_graph_mode.resolve(graph) and kind_of(node) not in ("leaf", "variable"):
        walk = _EachVariable(entry)
        walk.root(node, ())
        graphdef, leaves = walk.graphdef(), list(map(held, walk.leaves))
    else:
        record = record_for(node, graph)
        graphdef, leaves = record.graphdef, record.read()
    entries = [entry(path, leaf) for path, leaf in zip(graphdef.paths, leaves)]
    made = assembly_of(graphdef).make(entries, recreate=False)
    if axes is None:
        return made
    for start, root in jax.tree_util.tree_leaves_with_path(made, is_leaf=is_node):
        if is_node(root):
            at = tuple(map(plain_key, start))
            remember_rules(root, lambda path, variable, at=at: entry((*at, *path), variable), axes.items())
    return made


class _EachVariable(Walk):
    """Finds out the structure of a model as if every reference to a variable were one to a variable of its own."""

    def __init__(self, entry: Callable[[Path, Any], Any]):
        super().__init__()
        self.entry = entry
        self.top: Path | None = None  # the object outside of all others, which is an argument by itself
        self.tops: dict[int, Path | None] = {}

    def visit(self, value: Any, kind: str, path: Path) -> None:
        before = self.top
        if before is None and kind == "object":
            self.top = path
        super().visit(value, kind, path)
        self.top = before

    def enter(self, value: Any, path: Path) -> int | None:
        first = self.where.setdefault(id(value), path)
        top = self.tops.setdefault(id(value), self.top)
        if first is path:
            return super().enter(value, path)
        if kind_of(value) == "variable":
            if self.top is not None and self.top == top:
                self.compare(value, first, path)
            number = self.index[object()] = len(self.index)  # type: ignore[index]  # a key that nothing else has
            return number
        record = record_of(value)
        for below, leaf in zip(record.graphdef.paths, record.read()):
            self.compare(leaf, (*first, *below), (*path, *below))
        return super().enter(value, path)

    def compare(self, leaf: Any, first: Path, second: Path) -> None:
        """Make sure that a leaf has the same entry on both paths."""
        entries = self.entry(first, leaf), self.entry(second, leaf)
        if entries[0] != entries[1]:
            raise aliased_state("prefix", (show_path(first), entries[0]), (show_path(second), entries[1]))
