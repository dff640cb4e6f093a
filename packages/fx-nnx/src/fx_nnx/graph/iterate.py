"""Walking through models."""

from collections.abc import Iterator
from typing import Any, cast

from fx_nnx.errors import SharedReferenceError, StateStructureError, not_a_node
from fx_nnx.filters import Filter, filters_to_predicates, to_predicate
from fx_nnx.graph.children import children_of
from fx_nnx.graph.kinds import kind_of
from fx_nnx.modes import set_graph_mode
from fx_nnx.objects.fields import is_array
from fx_nnx.paths import Path, key_order
from fx_nnx.states.flat import one_or_all, partition
from fx_nnx.states.state import State
from fx_nnx.variables.variable import Variable

__all__ = ["find_duplicates", "iter_graph", "pop"]


def iter_graph(node: Any, /, *, graph: bool | None = None) -> Iterator[tuple[Path, Any]]:
    """Returns path and value of everything in a model, each object once, what it holds before the object itself.

    The order is that of the names. With ``graph=False`` an object on two paths is a `SharedReferenceError`,
    and one that is no pytree a `NnxError`.

    >>> import fx_nnx as nnx
    >>> class Leaf(nnx.Module):
    ...     def __init__(self):
    ...         self.size = 3
    >>> [(path, type(value).__name__) for path, value in iter_graph(Leaf())]
    [(('size',), 'int'), ((), 'Leaf')]
    """
    shared = set_graph_mode.resolve(graph)
    seen: dict[int, Path] = {}

    def visit(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        kind = kind_of(value) if value is not None else "leaf"
        if kind in ("object", "variable"):
            if kind == "object" and not (shared or cast(Any, type(value))._nnx_pytree):
                raise not_a_node(value, path)
            if id(value) in seen:
                if not shared:
                    raise SharedReferenceError(type(value).__name__, seen[id(value)], path)
                return
            seen[id(value)] = path
        if kind not in ("leaf", "variable"):
            for key, child in children_of(value):
                yield from visit(child, (*path, key))
        yield path, value

    return visit(node, ())


def find_duplicates(node: Any, /, *, only: Filter = ...) -> list[list[Path]]:
    """Returns the groups of paths that lead to the same object or variable.

    Args:
      node: a model.
      only: which objects count.

    >>> import fx_nnx as nnx
    >>> weight = nnx.Param(1.0)
    >>> nnx.find_duplicates(nnx.Dict(encoder=weight, decoder=weight))
    [[('decoder',), ('encoder',)]]
    """
    matches = to_predicate(only)
    found: dict[int, list[Path]] = {}
    chosen: set[int] = set()

    def visit(value: Any, path: Path) -> None:
        kind = kind_of(value) if value is not None else "leaf"
        if kind in ("object", "variable"):
            paths = found.setdefault(id(value), [])
            paths.append(path)
            if matches(path, value):
                chosen.add(id(value))
            if len(paths) > 1:
                return
        if kind not in ("leaf", "variable"):
            for key, child in children_of(value):
                visit(child, (*path, key))

    visit(node, ())
    return [paths for key, paths in found.items() if len(paths) > 1 and key in chosen]


def pop(node: Any, *filters: Filter) -> Any:
    """Takes variables and arrays out of a model and give them, as one state per filter.

    Args:
      node: a module, or a dictionary; what is chosen is removed from it, and from the modules and dictionaries in it.
      *filters: what to take.

    Returns:
      A `State`, or a tuple of them for several filters. A variable that is chosen on several paths is in it once, at
      the first of them, as in `state`; on paths that no filter lets through it stays in the model.

    Raises:
      NnxError: a filter comes after one that matches everything.
      StateStructureError: there is no filter, or something in a list or tuple is chosen, where nothing can be taken
        out.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(1.0), seen=nnx.Intermediate(2.0))
    >>> nnx.pop(model, nnx.Intermediate)["seen"].get_value(), list(model)
    (2.0, ['w'])
    """
    if not filters:
        raise StateStructureError("pop got no filter.", (), expected="a filter for each state", fix="pop(model, ...)")
    predicates = filters_to_predicates(filters)
    entries: list[tuple[Path, Any, Any]] = []  # where, what is there, what it is taken out of
    for path, value in iter_graph(node, graph=True):
        if value is None or kind_of(value) in ("leaf", "variable"):
            continue
        for key, child in children_of(value):
            if isinstance(child, Variable) or is_array(child):
                entries.append(((*path, key), child, value))
    entries.sort(key=lambda entry: tuple(map(key_order, entry[0])))
    paths, leaves = [path for path, _, _ in entries], [leaf for _, leaf, _ in entries]
    groups = partition(paths, leaves, predicates, exhaustive=False)
    chosen = sorted(i for group in groups for i in group)
    for path, _, owner in (entries[i] for i in chosen):
        if kind_of(owner) not in ("object", "dict"):
            what = f"Nothing can be taken out of a {type(owner).__name__}."
            raise StateStructureError(what, path, expected="a module or a dictionary", fix="use nnx.List or nnx.Dict")
    # From the back, since the items of a list move up; once, since a dictionary may be on two paths.
    places = {(id(entries[i][2]), paths[i][-1]): entries[i][2] for i in reversed(chosen)}
    for (_, key), owner in places.items():
        if isinstance(owner, dict):
            del owner[key]
        else:
            owner._nnx_delete(key)
    first = {id(leaves[i]): i for i in reversed(chosen) if isinstance(leaves[i], Variable)}
    groups = [[i for i in group if first.get(id(leaves[i]), i) == i] for group in groups]
    states = tuple(State.from_flat_path([(paths[i], leaves[i]) for i in group]) for group in groups)
    return one_or_all(states)
