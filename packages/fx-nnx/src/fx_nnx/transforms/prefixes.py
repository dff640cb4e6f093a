"""Prefixes: which axis, sharding or part in a derivative the variables of an argument have."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
from fx_transforms.errors import aliased_state

from fx_nnx.errors import PrefixError
from fx_nnx.filters import Filter, filters_to_predicates, to_predicate
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.children import children_of, plain_key
from fx_nnx.graph.kinds import is_node, kind_of
from fx_nnx.graph.record import Walk, record_for, record_of
from fx_nnx.modes import set_graph_mode
from fx_nnx.objects.pytree import Pytree, kinds_of
from fx_nnx.paths import Path, show_path
from fx_nnx.representation import Representable
from fx_nnx.states.state import State
from fx_nnx.transforms.layout import held
from fx_nnx.variables.collections import slots_of_collections
from fx_nnx.variables.variable import Variable

__all__ = [
    "Carry",
    "DiffState",
    "PerVariable",
    "StateAxes",
    "StateSharding",
    "completed",
    "entries_of",
    "prefix",
    "spread_prefix",
]


class Carry:
    """In place of an axis: what each step of `fx_nnx.scan` hands on to the next; the class itself stands for it.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> add = nnx.scan(lambda total, x: (total + x, total), in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    >>> total, before = add(jnp.zeros(()), jnp.arange(3.0))
    >>> float(total), before
    (3.0, Array([0., 0., 1.], dtype=float32))
    """


class PerVariable(Representable):
    """A prefix that depends on the variable: pairs of a filter and what the variables that match it get.

    Args:
      entries: a mapping of filters, or a `State` whose leaves are what its paths get.
    """

    __slots__ = ("__weakref__", "_by_path", "_entries", "_predicates")

    _entries: tuple[tuple[Any, Any], ...]

    def __init__(self, entries: Mapping[Filter, Any] | State):
        if isinstance(entries, State):
            entries = {PathIs(path): leaf for path, leaf in entries.flat_state()}
        self._entries = tuple((tuple(f) if isinstance(f, list) else f, entry) for f, entry in entries.items())
        self._predicates: Any = None

    @property
    def filters(self) -> tuple[Filter, ...]:
        """The filters."""
        return tuple(filter for filter, _ in self._entries)

    def items(self) -> Iterator[tuple[Filter, Any]]:
        """Returns pairs of a filter and an entry."""
        return iter(self._entries)

    def map_prefix(self, path: Sequence[Any], variable: Any) -> Any:
        """Returns what a variable gets.

        Raises:
          PrefixError: no filter matches it.
        """
        if self._predicates is None:
            self._predicates = filters_to_predicates(self.filters)
        for matches, (_, entry) in zip(self._predicates, self._entries):
            if matches(tuple(path), variable):
                return entry
        raise PrefixError.unmatched(type(self).__name__, path, type(variable), self.filters)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._entries == self._entries  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._entries))

    def _show(self) -> str:
        return f"{type(self).__name__}({dict(self._entries)!r})"


class StateAxes(PerVariable):
    """Gives the variables of a module different axes in `fx_nnx.vmap`, `fx_nnx.pmap` and `fx_nnx.scan`.

    >>> import fx_nnx as nnx
    >>> axes = StateAxes({nnx.Param: 0, ...: None})
    >>> axes.filters, axes.axes
    ((<class 'fx_nnx.variables.kinds.Param'>, Ellipsis), (0, None))

    Variables that no filter matches have the axis that the plugin names which registers their type, if one does.

    Args:
      filter_axes: a mapping of filters to axes, None, or `Carry`; the first filter that matches counts.
    """

    def __init__(self, filter_axes: Mapping[Filter, Any] | State):
        super().__init__(filter_axes)

    @property
    def axes(self) -> tuple[Any, ...]:
        """The axes."""
        return tuple(entry for _, entry in self._entries)

    def completed(self, transform: Literal["vmap", "scan"]) -> "StateAxes":
        """Returns the axes, and behind them those of third parties' collections, for what no filter matches."""
        if any(filter is ... or filter is True for filter in self.filters):
            return self
        entries = {"broadcast": None, "carry": Carry}
        more = {filter: entries.get(slot, slot) for filter, slot in slots_of_collections(transform)}
        return StateAxes({**dict(self._entries), **more}) if more else self


class StateSharding(PerVariable):
    """Gives the variables of a module different shardings in `fx_nnx.jit` and `fx_nnx.shard_map`.

    Args:
      filter_sharding: a mapping of filters to shardings or partition specs; the first filter that matches counts.

    >>> import jax
    >>> import fx_nnx as nnx
    >>> rules = nnx.StateSharding({nnx.PathContains("kernel"): jax.P(None, "model"), ...: jax.P()})
    >>> rules.map_prefix(("kernel",), nnx.Param(1.0))
    P(None, 'model')
    """

    def __init__(self, filter_sharding: Mapping[Filter, Any] | State):
        super().__init__(filter_sharding)

    @property
    def shardings(self) -> tuple[Any, ...]:
        """The shardings."""
        return tuple(entry for _, entry in self._entries)


def _by_path(model: Any) -> dict[Path, Any]:
    """Returns what a model has in the places of its variables, by path, None too."""
    found: dict[Path, Any] = {}
    seen: set[int] = set()

    def visit(value: Any, path: Path) -> None:
        kind = "leaf" if value is None or isinstance(value, jax.sharding.PartitionSpec) else kind_of(value)
        if kind in ("leaf", "variable"):  # a variable is no entry, which those who look at entries say
            found[path] = value
        elif id(value) not in seen:
            seen.add(id(value))
            kinds = kinds_of(value) if kind == "object" else None
            for key, child in children_of(value):
                if kinds is None or kinds[key]:
                    visit(child, (*path, key))

    visit(model, ())
    return found


class PathPrefix(PerVariable):
    """Entries by path, which a tree of the structure of a model has in the place of its variables."""

    def __init__(self, model: Any):
        self._by_path = _by_path(model)
        self._entries = tuple((PathIs(path), entry) for path, entry in self._by_path.items())
        known = _rules.get(id(model))
        self._others = None
        if known is not None and known[0]() is model:
            self._others = known[1]
            self._entries += known[2]

    def map_prefix(self, path: Sequence[Any], variable: Any) -> Any:
        """Returns what the variable at a path gets; one that is new, what the rules say that the tree was made by."""
        try:
            return self._by_path[tuple(path)]
        except KeyError:
            if self._others is None:
                raise PrefixError.unmatched("The prefix", path, type(variable), list(self._by_path)) from None
            return self._others(path, variable)


Rules = Callable[[Sequence[Any], Any], Any]
_rules: dict[
    int, tuple[weakref.ref[Any], Rules, tuple[tuple[Any, Any], ...]]
] = {}  # by identity: objects may be equal, and have no hash


def _remember_rules(model: Any, rules: Rules, entries: Iterable[tuple[Any, Any]]) -> None:
    """Records by which rules the entries in a tree were made, for variables that are in the model later.

    Args:
      model: the tree.
      rules: what gives the entry of a path and variable.
      entries: pairs of filter and entry, for all entries that it gives.
    """
    key = id(model)
    _rules[key] = weakref.ref(model, lambda _: _rules.pop(key, None)), rules, tuple(entries)


class DiffState:
    """Says in ``argnums`` of `fx_nnx.grad` which variables of an argument the derivative is for.

    >>> import fx_nnx as nnx
    >>> DiffState(0, nnx.Param).argnum
    0

    Args:
      argnum: position of the argument.
      filter: which of its variables.
    """

    __slots__ = ("__weakref__", "argnum", "filter")

    def __init__(self, argnum: int, filter: Filter):
        self.argnum, self.filter = argnum, filter

    def map_prefix(self, path: Sequence[Any], variable: Any) -> bool:
        """Returns whether a variable belongs to it."""
        return bool(to_predicate(self.filter)(tuple(path), variable))

    def __eq__(self, other: object) -> bool:
        return type(other) is DiffState and (other.argnum, other.filter) == (self.argnum, self.filter)

    def __hash__(self) -> int:
        return hash((self.argnum, self.filter))

    def __repr__(self) -> str:
        return f"DiffState({self.argnum}, {self.filter!r})"


class PathIs:
    """A filter that matches one path."""

    __slots__ = ("path",)

    def __init__(self, path: tuple[Any, ...]):
        self.path = path

    def __call__(self, path: tuple[Any, ...], _: Any) -> bool:
        return path == self.path

    def __eq__(self, other: object) -> bool:
        return type(other) is PathIs and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return repr(self.path)


def is_entry(x: Any) -> bool:
    """Returns whether something in a prefix is an entry although JAX sees structure in it."""
    return x is None or isinstance(x, PerVariable | jax.sharding.PartitionSpec) or is_node(x)


def resolved(entry: Any) -> Any:
    """Returns an entry, where objects stand for entries by path."""
    return PathPrefix(entry) if isinstance(entry, Pytree) else entry


def completed(prefix: Any, transform: Literal["vmap", "scan"]) -> Any:
    """Returns a prefix whose `StateAxes` have the entries of third parties' collections."""
    if prefix is None or type(prefix) in (int, type):
        return prefix
    return jax.tree.map(
        lambda entry: entry.completed(transform) if isinstance(entry, StateAxes) else entry, prefix, is_leaf=is_entry
    )


def entries_of(prefix: Any) -> list[Any]:
    """Returns the entries of a prefix, those for single variables too."""
    found: list[Any] = []
    for entry in map(resolved, jax.tree.leaves(prefix, is_leaf=is_entry)):
        found += [part for _, part in entry.items()] if isinstance(entry, PerVariable) else [entry]
    return found


def spread_prefix(name: str, prefix: Any, tree: Any) -> list[Any]:
    """Returns the entry of a prefix for each object, variable and array of a tree.

    Args:
      name: of the option, for the message.
      prefix: the prefix.
      tree: what it is a prefix of.

    Raises:
      PrefixError: it is not a prefix.
    """
    if type(prefix) is list and type(tree) is tuple:
        prefix = tuple(prefix)
    found: list[Any] = []
    try:
        entries, treedef = jax.tree.flatten(prefix, is_leaf=is_entry)
        for entry, part in zip(entries, treedef.flatten_up_to(tree)):
            if isinstance(entry, Variable) or (is_node(entry) and not is_node(part)):
                raise TypeError(f"a {type(entry).__name__} is no entry for a {type(part).__name__}")
            found += [resolved(entry)] * len(jax.tree.leaves(part, is_leaf=is_node))
    except (ValueError, TypeError) as error:
        raise PrefixError.mismatch(name, prefix, str(error)) from error
    return found


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
            _remember_rules(root, lambda path, variable, at=at: entry((*at, *path), variable), axes.items())
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
