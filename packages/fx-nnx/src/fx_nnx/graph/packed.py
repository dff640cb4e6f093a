"""Structure and state in one value."""

import types
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

import jax

from fx_nnx.graph.definition import GraphDef
from fx_nnx.representation import Representable, show_fields
from fx_nnx.states.state import State, flatten_state, flatten_with_keys, unflatten_state

__all__ = ["GraphState", "PureState"]


class _PureState(types.GenericAlias):
    """The alias of a type that takes the class of the model as a parameter."""

    def __getitem__(self, model: Any) -> Any:
        return tuple[GraphDef[model], State]


PureState = _PureState(tuple, (GraphDef, State))
"""The type of what `fx_nnx.split` gives without filters; ``PureState[Model]`` says of what model."""


class GraphState(Representable, MutableMapping[Any, Any]):
    """A state that carries the structure it belongs to: a pytree whose structure has the `GraphDef`.

    It is read and changed like a `State`, and `fx_nnx.merge` takes it alone. `fx_nnx.unpack` gives it.

    Args:
      _graphdef: the structure.
      _state: the values, all or some of them.

    >>> import fx_nnx as nnx
    >>> packed = nnx.unpack(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> sorted(packed), nnx.merge(packed).out_features
    (['bias', 'kernel'], 3)
    """

    __slots__ = ("__weakref__", "_graphdef", "_state")

    _graphdef: GraphDef
    _state: State

    def __init__(self, _graphdef: GraphDef, _state: State):
        object.__setattr__(self, "_graphdef", _graphdef)
        object.__setattr__(self, "_state", _state)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_graphdef", "_state"):
            raise AttributeError(name)
        return getattr(self._state, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._state, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._state, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return GraphState, (self._graphdef, self._state)

    def __getitem__(self, key: Any) -> Any:
        return self._state[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._state[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._state[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)

    def _show(self) -> str:
        return show_fields("GraphState", {"_graphdef": self._graphdef, "_state": self._state})


def _flatten_with_keys(packed: GraphState) -> Any:
    # The keys of the state are those of the whole, so that its paths are the same as without the structure.
    state = packed._state
    if type(state) is not State:
        return ((jax.tree_util.GetAttrKey("_state"), state),), (packed._graphdef, None)
    pairs, keys = flatten_with_keys(state)
    return pairs, (packed._graphdef, keys)


def _flatten(packed: GraphState) -> Any:
    state = packed._state
    if type(state) is not State:
        return (state,), (packed._graphdef, None)
    children, keys = flatten_state(state)
    return children, (packed._graphdef, keys)


def _unflatten(structure: tuple[GraphDef, Any], children: Iterable[Any]) -> GraphState:
    graphdef, keys = structure
    return GraphState(graphdef, next(iter(children)) if keys is None else unflatten_state(keys, children))


jax.tree_util.register_pytree_with_keys(GraphState, _flatten_with_keys, _unflatten, _flatten)
