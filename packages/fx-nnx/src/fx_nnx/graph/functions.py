"""Taking models apart into structure and values, and putting them together again."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.core import Tracer

from fx_nnx.errors import ArgumentTypeError, StateStructureError
from fx_nnx.filters import Filter, filters_to_predicates, is_structural
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.packed import GraphState
from fx_nnx.graph.record import Record, record_for
from fx_nnx.paths import Path, show_path
from fx_nnx.states.flat import FlatState, one_or_all, partition
from fx_nnx.states.nesting import Leaves, Paths, flatten
from fx_nnx.states.state import State
from fx_nnx.variables.variable import Variable

__all__ = ["clone", "flatten_node", "graphdef", "merge", "split", "state", "unflatten", "unpack", "variables"]


def split(node: Any, *filters: Filter, graph: bool | None = None) -> tuple[Any, ...]:
    """Takes a model apart into its structure and its values.

    >>> import fx_nnx as nnx
    >>> class Scale(nnx.Module):
    ...     def __init__(self):
    ...         self.scale, self.mean = nnx.Param(2.0), nnx.BatchStat(0.0)
    >>> graphdef, params, rest = split(Scale(), nnx.Param, ...)
    >>> params.to_pure_dict(), rest.to_pure_dict()
    ({'scale': 2.0}, {'mean': 0.0})

    Args:
      node: a module, another object, a pytree of them, or a variable or array alone, which is its own state.
      *filters: one for each state; see `fx_nnx.filters`. None means one state of everything.
      graph: False to refuse shared references, which otherwise are kept.

    Returns:
      The `GraphDef`, and a `State` for each filter. States hold the variables of the model, not copies.

    Raises:
      NnxError: the filters leave something over.
      NnxError: the value is not made of nodes.
      SharedReferenceError: ``graph=False``, and something is reachable on two paths.
    """
    record = record_for(node, graph)
    return record.graphdef, *_states(record, filters, exhaustive=True)


def unpack(node: Any, *filters: Filter, graph: bool | None = None) -> Any:
    """Takes a model apart as `split` does, into one `GraphState` per filter, each of which carries the structure.

    >>> import fx_nnx as nnx
    >>> packed = unpack(nnx.Dict(w=nnx.Param(1.0)))
    >>> merge(packed).w.get_value()
    1.0

    Args:
      node: as for `split`.
      *filters: as for `split`.
      graph: as for `split`.

    Returns:
      A `GraphState`, or a tuple of them for several filters.
    """
    graphdef, *states = split(node, *filters, graph=graph)
    return one_or_all([GraphState(graphdef, state) for state in states])


def state(node: Any, *filters: Filter, graph: bool | None = None) -> Any:
    """Returns the values of a model, or one state per filter of those that match.

    The states hold the variables of the model, not copies.

    >>> import fx_nnx as nnx
    >>> model = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    >>> params, statistics = nnx.state(model, nnx.Param, nnx.BatchStat)
    >>> sorted(params), sorted(statistics)
    (['bias', 'scale'], ['mean', 'var'])
    """
    states = _states(record_for(node, graph), filters, exhaustive=False)
    return one_or_all(states)


def variables(node: Any, *filters: Filter, graph: bool | None = None) -> Any:
    """Returns what `state` returns: Flax has both names, and bare arrays are in both.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(1.0), table=jnp.ones(2))
    >>> sorted(nnx.variables(model)), sorted(nnx.variables(model, nnx.Variable))
    (['table', 'w'], ['w'])
    """
    return state(node, *filters, graph=graph)


def graphdef(node: Any, /, *, graph: bool | None = None) -> GraphDef:
    """Returns the structure of a model.

    >>> import fx_nnx as nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> nnx.merge(nnx.graphdef(layer), nnx.state(layer)).out_features
    3
    """
    return record_for(node, graph).graphdef


def merge(graphdef_or_graphstate: Any, /, *states: Any, copy: bool = False, recreate_variables: bool = True) -> Any:
    """Merges a model from its structure and its values.

    Args:
      graphdef_or_graphstate: the structure, a `GraphState`, or a tuple of structure and state.
      *states: the states of the split, in any order; plain nested dictionaries of values do too.
      copy: whether to copy variables, instead of letting the model have those of the states.
      recreate_variables: whether a bare value in the place of a variable gets a new variable, or is put there itself.

    Raises:
      StateStructureError: a value is missing, or there is one that the structure has no place for.
      ArgumentTypeError: no state was given, or something else than a structure.

    Warns:
      UserWarning: bare values of plain dictionaries have other shapes than those of the model that the structure was
        taken from, if that is still there.

    >>> import jax
    >>> import fx_nnx as nnx
    >>> graphdef, state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> doubled = nnx.merge(graphdef, jax.tree.map(lambda x: 2 * x, state))
    >>> doubled.kernel.shape
    (2, 3)
    """
    graphdef = graphdef_or_graphstate
    if isinstance(graphdef, GraphState):
        graphdef, states = _unpacked(graphdef, states)
    elif isinstance(graphdef, tuple):
        graphdef, *more = graphdef
        states = (*more, *states)
    if not isinstance(graphdef, GraphDef):
        raise ArgumentTypeError(
            "merge() takes the structure of a model first.",
            expected="a GraphDef or a GraphState, and then states, as nnx.split and nnx.pure give them",
            got=f"{type(graphdef).__name__} {graphdef!r:.80}",
        )
    if not states and graphdef.num_leaves:
        raise ArgumentTypeError(
            "merge() missing 1 required positional argument: 'state'", expected="what nnx.split gave", got="no state"
        )
    leaves = _aligned(graphdef, states)
    if not all(isinstance(part, State | FlatState) for part in states):
        _warn_of_shapes(graphdef, leaves)
    return assembly_of(graphdef).make(leaves, copy=copy, recreate=recreate_variables)


def _unpacked(first: GraphState, rest: Sequence[Any]) -> tuple[GraphDef, tuple[Any, ...]]:
    """Give the definition and the states of several that carry theirs."""
    for other in rest:
        if not isinstance(other, GraphState) or other._graphdef != first._graphdef:
            what = "A GraphState can be merged with those of the same unpack only."
            raise StateStructureError(what, (), expected="a GraphState with the same definition", got=_kind(other))
    return first._graphdef, (first._state, *(other._state for other in rest))


def _kind(other: Any) -> str:
    return "one with another definition" if isinstance(other, GraphState) else type(other).__name__


def _warn_of_shapes(graphdef: GraphDef, leaves: Sequence[Any]) -> None:
    """Warn of values of other shapes than those of the model that a definition was taken from, if it is still there."""
    record = None if graphdef._record is None else graphdef._record()
    if record is None or not record.alive:
        return
    for path, leaf, old in zip(graphdef.paths, leaves, record.read()):
        new = getattr(leaf, "shape", None)
        wanted = getattr(old.get_raw_value() if isinstance(old, Variable) else old, "shape", None)
        if wanted is not None and new != wanted and not isinstance(leaf, Variable | Tracer):
            got = repr(leaf) if new is None else f"a value of shape {tuple(new)}"
            warnings.warn(
                f"nnx.merge: {show_path(path)} gets {got}, where the model has {tuple(wanted)}.", stacklevel=3
            )


def unflatten(
    graphdef: GraphDef, state: Any, /, *, copy_variables: bool = False, recreate_variables: bool = True
) -> Any:
    """Merges a model from what `flatten` gave: a flat state, or a list of leaves in its order."""
    leaves = _aligned(graphdef, (state,)) if isinstance(state, FlatState | Mapping) else state
    return assembly_of(graphdef).make(leaves, copy=copy_variables, recreate=recreate_variables)


def flatten_node(node: Any, /, *, with_paths: bool = True, graph: bool | None = None) -> tuple[GraphDef, Any]:
    """Returns the structure of a model and its leaves, as a `FlatState` or, without paths, as a list."""
    record = record_for(node, graph)
    leaves = record.read()
    if not with_paths:
        return record.graphdef, leaves
    return record.graphdef, FlatState.from_sorted_keys_values(record.graphdef.paths, leaves)


def clone(node: Any, variables: bool = True, *, arrays: bool = False, graph: bool | None = None) -> Any:
    """Returns a second model of the same structure.

    Args:
      node: the model.
      variables: whether it gets variables of its own.
      arrays: whether it also gets arrays of its own, instead of the same immutable ones.
      graph: as in `split`.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(1.0))
    >>> copy = nnx.clone(model)
    >>> copy.w.set_value(2.0)
    >>> model.w.get_value()
    1.0
    """
    record = record_for(node, graph)
    assembly, leaves = assembly_of(record.graphdef), record.read()
    if arrays:
        leaves = list(map(_with_own_arrays, leaves))
    return assembly.clone(leaves) if variables and not arrays else assembly.make(leaves, copy=variables)


def _with_own_arrays(leaf: Any) -> Any:
    if not isinstance(leaf, Variable) or not hasattr(leaf.get_raw_value(), "dtype"):
        return leaf
    return leaf.copy(jnp.copy(leaf.get_value() if leaf.ref else leaf.get_raw_value()))


def _states(record: Record, filters: tuple[Filter, ...], *, exhaustive: bool) -> tuple[State, ...]:
    paths = record.graphdef.paths
    whole = record.lasting and record.only_variables
    leaves = Leaves(record) if whole and not filters else record.read()
    if len(paths) == 1 and not paths[0]:
        return _alone(leaves[0], filters)
    if not filters:
        return (State._from_flat(paths, leaves),)
    predicates = filters_to_predicates(filters)

    def make() -> list[tuple[Paths, list[int]]]:
        groups = partition(paths, leaves, predicates, exhaustive=exhaustive)
        return [(Paths([paths[i] for i in group]), group) for group in groups]

    lasting = all(is_structural(predicate) for predicate in predicates)
    groups = record.groups((predicates, exhaustive), make) if lasting else make()
    return tuple([State._from_flat(found, list(map(leaves.__getitem__, group))) for found, group in groups])


def _alone(leaf: Any, filters: tuple[Filter, ...]) -> tuple[Any, ...]:
    """Give the states of what is a variable itself: the variable, in the place of the state that it belongs to."""
    groups = partition([()], [leaf], filters_to_predicates(filters or (...,)), exhaustive=True)
    return tuple(leaf if group else State({}) for group in groups)


def _aligned(graphdef: GraphDef, states: Sequence[Any]) -> Sequence[Any]:
    """Give the leaves of some states in the order of a definition."""
    paths = graphdef.paths
    if len(paths) == 1 and not paths[0]:
        parts = [
            part.leaves if isinstance(part, FlatState) else [part] for part in states if not isinstance(part, State)
        ]
        return [leaf for part in parts for leaf in part]
    if len(states) == 1 and isinstance(states[0], State):
        leaves = graphdef.leaves_of(states[0])
        if leaves is not None:
            return leaves
    by_path: dict[Path, Any] = {}
    for part in states:
        by_path.update(_pairs(part))
    for path in paths:
        if path not in by_path:
            raise StateStructureError("The states have no value for a variable of the graph definition.", path)
    if len(by_path) != len(paths):
        extra = next(iter(by_path.keys() - set(paths)))
        raise StateStructureError("The states have a value that the graph definition has no place for.", extra)
    return [by_path[path] for path in paths]


def _pairs(part: Any) -> Any:
    return part if isinstance(part, FlatState) else flatten(part)
