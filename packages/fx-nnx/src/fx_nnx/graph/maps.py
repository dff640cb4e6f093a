"""Functions over everything in a model."""

from collections.abc import Callable
from typing import Any, cast

from fx_core.compat.jax import current_trace

from fx_nnx.errors import NnxError, SharedReferenceError, mode_value, not_a_node
from fx_nnx.filters import All, Filter, to_predicate
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.children import children_of, one_level
from fx_nnx.graph.iterate import find_duplicates
from fx_nnx.graph.kinds import kind_of
from fx_nnx.graph.record import record_for, record_of
from fx_nnx.modes import set_graph_mode
from fx_nnx.objects.fields import is_data
from fx_nnx.objects.pytree import attributes_of, new_object, owned_kinds
from fx_nnx.paths import Path, show_path, sorted_keys
from fx_nnx.variables.variable import Variable

__all__ = ["map_leaves", "recursive_map", "set_metadata", "vars_as", "with_vars"]


def map_leaves(
    f: Callable[[Path, Any], Any], node: Any, /, *, graph: bool | None = None, recreate_variables: bool = True
) -> Any:
    """Returns a model of the same structure with ``f(path, leaf)`` for each of its variables and arrays.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(1.0))
    >>> map_leaves(lambda path, v: v.replace(v + 1), model).w.get_value(), model.w.get_value()
    (2.0, 1.0)

    Args:
      f: a function of a path and a variable or array. What it gives takes the place of the leaf: a variable, or for a
        variable a value, for which a variable of the same type and metadata is made.
      node: a module, another object, or a pytree of them; it stays as it is.
      graph: as in `fx_nnx.split`.
      recreate_variables: whether values that ``f`` gives for variables get variables, or take their places.

    Returns:
      The new model. What was shared is shared, and ``f`` sees it once.
    """
    record = record_for(node, graph)
    leaves = [f(path, leaf) for path, leaf in zip(record.graphdef.paths, record.read())]
    return assembly_of(record.graphdef).make(leaves, recreate=recreate_variables)


def recursive_map(f: Callable[[Path, Any], Any], node: Any, /, *, graph: bool | None = None) -> Any:
    """Returns ``f(path, x)`` for a copy of a model in which everything has been mapped so already, from the inside out.

    >>> import fx_nnx as nnx
    >>> recursive_map(lambda path, x: x + 1 if isinstance(x, int) else x, nnx.Dict(a=1, b=nnx.Dict(c=2))).b.c
    3

    Args:
      f: a function of a path and an object, container, variable, array or static attribute.
      node: a model; it stays as it is.
      graph: as in `fx_nnx.split`.

    Returns:
      What ``f`` gives for the whole. What was shared is shared, and ``f`` sees it once.

    Raises:
      NnxError: ``f`` gave another object for one that is a part of itself.
      SharedReferenceError: ``graph=False``, and something is reachable on two paths.
    """
    return _Mapping(f, shared=set_graph_mode.resolve(graph)).visit(node, ())


def set_metadata(node: Any, /, *, only: Filter = Variable, **metadata: Any) -> None:
    """Sets metadata of the variables in a model, in place.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(1.0))
    >>> set_metadata(model, frozen=True)
    >>> model.w.frozen
    True

    Args:
      node: a model.
      only: which variables.
      **metadata: entries by name; see `Variable.set_metadata`.

    Raises:
      TraceLevelError: a variable was made outside the transform that runs.
    """
    matches = to_predicate(only)
    record = record_of(node)
    for path, leaf in zip(list(record.graphdef.paths), list(record.leaves)):
        if isinstance(leaf, Variable) and matches(path, leaf):
            leaf.set_metadata(**metadata)


def with_vars(
    node: Any,
    /,
    *,
    hijax: bool | None = None,
    ref: bool | None = None,
    mutable: bool | None = None,
    only: Filter = ...,
    allow_duplicates: bool = False,
) -> Any:
    """Returns a model whose variables have other options, such as values in a `jax.Ref`.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(jnp.ones(2)))
    >>> with_vars(model, ref=True).w.ref, model.w.ref
    (True, False)

    Args:
      node: a model; it stays as it is.
      hijax: metadata of the variables; see `fx_nnx.use_hijax`.
      ref: whether values live in a `jax.Ref`.
      mutable: an older name of ``ref``.
      only: which variables.
      allow_duplicates: whether variables that change may be shared. They stay shared; the same reference must not be
        passed twice to a transform of JAX.

    Returns:
      The new model. Variables that have the options already are the same.

    Raises:
      SharedReferenceError: a variable that changes is reachable on two paths.
      ArgumentTypeError: ``ref`` and ``mutable`` contradict each other.
    """
    if None not in (ref, mutable) and ref != mutable:
        raise mode_value("with_vars(ref=...) and its older name mutable", (ref, mutable))
    wanted = {"hijax": hijax, "ref": mutable if ref is None else ref}
    options = {name: value for name, value in wanted.items() if value is not None}
    matches = to_predicate(only)

    def changes(path: Path, leaf: Any) -> bool:
        differs = isinstance(leaf, Variable) and any(leaf.get_metadata(k) != v for k, v in options.items())
        return differs and matches(path, leaf)

    if not allow_duplicates:
        for first, second, *_ in find_duplicates(node, only=All(Variable, changes)):
            raise SharedReferenceError("Variable", first, second, fix="allow_duplicates=True, or copy the variable")
    return map_leaves(lambda path, x: _with_options(x, options) if changes(path, x) else x, node, graph=True)


vars_as = with_vars


def _with_options(variable: Variable[Any], options: dict[str, bool]) -> Variable[Any]:
    value = variable.get_raw_value()
    return variable.replace(value[...] if variable.ref else value, **options)


class _Mapping:
    def __init__(self, f: Callable[[Path, Any], Any], *, shared: bool):
        self.f, self.shared = f, shared
        self.trace = current_trace()
        self.done: dict[int, Any] = {}
        self.unfinished: dict[int, Any] = {}
        self.in_cycles: set[int] = set()
        self.where: dict[int, Path] = {}
        self.alive: list[Any] = []  # what `f` let go must not give its id to a new object

    def visit(self, value: Any, path: Path) -> Any:
        kind = kind_of(value) if value is not None else "leaf"
        if kind not in ("object", "variable"):
            return self.f(path, value if kind == "leaf" else self.container(value, kind, path))
        key = id(value)
        if key in self.where and not self.shared:
            raise SharedReferenceError(type(value).__name__, self.where[key], path)
        if kind == "object" and not (self.shared or cast(Any, type(value))._nnx_pytree):
            raise not_a_node(value, path)
        if key in self.done:
            return self.done[key]
        if key in self.unfinished:
            self.in_cycles.add(key)
            return self.unfinished[key]
        self.where[key] = path
        self.alive.append(value)
        copy = self.object(value, path) if kind == "object" else value
        made = self.done[key] = self.f(path, copy)
        if key in self.in_cycles and made is not copy:
            raise NnxError(
                f"{type(value).__name__} is a part of itself, so that a map cannot put another object in its place.",
                path=show_path(path),
                expected="the object that the function was called with, changed in place or not",
                got=f"a new object of type {type(made).__name__}",
                fix="change the copy that the function gets, and return it",
            )
        return made

    def object(self, value: Any, path: Path) -> Any:
        copy = self.unfinished[id(value)] = new_object(type(value), self.trace)
        made, kinds, old = attributes_of(copy), owned_kinds(copy), value._nnx_kinds
        for key, child in children_of(value):
            made[key] = new = self.visit(child, (*path, key))
            kinds[key] = old[key] or is_data(new)
        return copy

    def container(self, value: Any, kind: str, path: Path) -> Any:
        if kind == "dict":
            return {key: self.visit(value[key], (*path, key)) for key in sorted_keys(value)}
        if kind in ("list", "tuple"):
            items = [self.visit(item, (*path, i)) for i, item in enumerate(value)]
            return items if kind == "list" else tuple(items)
        _, children, level = one_level(value)
        return level.make({key: self.visit(child, (*path, key)) for key, child in children.items()})
