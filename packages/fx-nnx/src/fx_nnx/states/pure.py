"""States without variables: nested dictionaries of arrays, as checkpoints and other libraries like them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fx_nnx.filters import Filter
from fx_nnx.paths import Path, as_int_key
from fx_nnx.states.flat import FlatState
from fx_nnx.states.nesting import value_twice
from fx_nnx.states.state import State, value_of
from fx_nnx.variables.variable import Variable

__all__ = [
    "as_pure",
    "filter_state",
    "from_flat_state",
    "map_state",
    "merge_state",
    "pure",
    "replace_by_pure_dict",
    "restore_int_paths",
    "split_state",
    "to_flat_state",
    "to_pure_dict",
]


def _state(state: Any) -> State:
    return state if isinstance(state, State) else State(state)


def to_pure_dict(state: Any, extract_fn: Callable[[Any], Any] | None = None) -> dict[Any, Any]:
    """Returns nested dictionaries with values in the place of variables.

    Args:
      state: a state.
      extract_fn: what to do to each leaf; by default to take the value out of a variable.

    >>> to_pure_dict(State({"w": Variable(1.0)}))
    {'w': 1.0}
    """
    return _state(state).to_pure_dict(extract_fn)


def replace_by_pure_dict(state: State, pure_dict: Mapping[Any, Any], replace_fn: Any = None) -> None:
    """Puts values from nested dictionaries into a state, in place.

    Args:
      state: what to change; its variables are replaced by new ones, so a model they belong to stays as it is.
      pure_dict: values, at paths that the state has; ``"0"`` stands for the key ``0`` where the state has that, since
        checkpoint formats such as Orbax' write all keys as text.
      replace_fn: makes a new leaf of an old one and a value.

    Raises:
      StateStructureError: there is a path that the state has not, or two values for one path, such as ``0`` and
        ``"0"``.

    >>> import fx_nnx as nnx
    >>> state = nnx.State({"layers": {0: nnx.Param(1.0)}})
    >>> nnx.replace_by_pure_dict(state, {"layers": {"0": 2.0}})
    >>> state["layers"][0].get_value()
    2.0
    """
    state.replace_by_pure_dict(pure_dict, replace_fn)


def restore_int_paths(pure_dict: Mapping[Any, Any]) -> dict[Any, Any]:
    """Converts keys like ``"0"``, as some checkpoint formats leave them, into integers.

    >>> restore_int_paths({"layers": {"0": 1.0}})
    {'layers': {0: 1.0}}

    Raises:
      StateStructureError: a key is there as a number and as text.
    """
    restored: dict[Any, Any] = {}
    for key, value in pure_dict.items():
        if as_int_key(key) in restored:
            raise value_twice((key,))
        restored[as_int_key(key)] = restore_int_paths(value) if isinstance(value, Mapping) else value
    return restored


def to_flat_state(state: Any) -> FlatState:
    """Returns paths and leaves of a state.

    >>> import fx_nnx as nnx
    >>> nnx.to_flat_state({"layer": {"w": 1.0}}).paths
    (('layer', 'w'),)
    """
    return _state(state).flat_state()


def from_flat_state(flat_state: Any, *, cls: Callable[[dict[Any, Any]], Any] = State) -> Any:
    """Creates a state of pairs of path and leaf.

    Args:
      flat_state: a `FlatState`, other pairs, or a mapping of paths.
      cls: makes the result of nested dictionaries.

    >>> import fx_nnx as nnx
    >>> nnx.from_flat_state([(("layer", "w"), 1.0)]).layer.w
    1.0
    """
    state = State.from_flat_path(flat_state)
    return state if cls is State else cls(state.raw_mapping)


def split_state(state: Any, first: Filter, /, *filters: Filter) -> Any:
    """Returns one state per filter, as `State.split` does.

    >>> import fx_nnx as nnx
    >>> state = nnx.state(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
    >>> params, rest = nnx.split_state(state, nnx.Param, ...)
    >>> sorted(rest)
    ['mean', 'var']
    """
    return _state(state).split(first, *filters)


def filter_state(state: Any, first: Filter, /, *filters: Filter) -> Any:
    """Returns one state per filter without the rest, as `State.filter` does.

    >>> import fx_nnx as nnx
    >>> state = nnx.state(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
    >>> sorted(nnx.filter_state(state, nnx.Param))
    ['bias', 'scale']
    """
    return _state(state).filter(first, *filters)


def merge_state(state: Any, /, *states: Any, cls: Callable[[dict[Any, Any]], Any] = State) -> Any:
    """Returns one state with the leaves of all; later ones win.

    >>> import fx_nnx as nnx
    >>> nnx.to_pure_dict(nnx.merge_state(nnx.State({"w": 1.0, "b": 0.0}), nnx.State({"w": 2.0})))
    {'b': 0.0, 'w': 2.0}
    """
    merged = State.merge(state, *states)
    return merged if cls is State else cls(merged.raw_mapping)


def map_state(f: Callable[[Path, Any], Any], state: Any) -> State:
    """Returns the state of ``f(path, leaf)`` for every leaf.

    >>> import fx_nnx as nnx
    >>> nnx.to_pure_dict(nnx.map_state(lambda path, x: ("/".join(path), x), nnx.State({"layer": {"w": 1.0}})))
    {'layer': {'w': ('layer/w', 1.0)}}
    """
    return _state(state).map(f)


def as_pure(tree: Any) -> Any:
    """Takes the values out of the variables of a pytree; of one that lives in a `jax.Ref`, what the reference holds.

    >>> as_pure({"w": Variable(1.0)})
    {'w': 1.0}
    """
    return jax.tree.map(value_of, tree, is_leaf=lambda x: isinstance(x, Variable))


pure = as_pure
