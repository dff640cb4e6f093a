"""Calling methods of a model that is given as structure and state."""

import operator
from collections.abc import Callable
from typing import Any

from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.functions import merge, split

__all__ = ["apply", "call"]


class _Call:
    """Collects attribute names and keys until it is called."""

    __slots__ = ("_graph", "_parts", "_steps")

    def __init__(self, parts: tuple[Any, ...], graph: bool | None, steps: tuple[Callable[[Any], Any], ...] = ()):
        self._parts, self._graph, self._steps = parts, graph, steps

    def __getattr__(self, name: str) -> "_Call":
        return _Call(self._parts, self._graph, (*self._steps, operator.attrgetter(name)))

    def __getitem__(self, key: Any) -> "_Call":
        return _Call(self._parts, self._graph, (*self._steps, operator.itemgetter(key)))

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, tuple[Any, Any]]:
        model = merge(*self._parts)
        method: Callable[..., Any] = model
        for step in self._steps:
            method = step(method)
        out = method(*args, **kwargs)
        return out, split(model, graph=self._graph)


def call(graphdef_state: tuple[Any, ...], /) -> Any:
    """Returns a proxy of a model whose methods return their result and the new ``(graphdef, state)``.

    ::

        out, (graphdef, state) = nnx.call((graphdef, state)).decode(x)
        out, (graphdef, state) = nnx.call((graphdef, state)).layers[0](x)
    """
    return _Call(tuple(graphdef_state), None)


def apply(graphdef: GraphDef, state: Any, *states: Any, graph: bool | None = None) -> Any:
    """Returns a proxy of the merged model, as `call` does; the method ``apply`` of graph definitions.

    ::

        out, (graphdef, state) = graphdef.apply(state)(x)

    Args:
      graphdef: the structure.
      state: the values, or some of them.
      *states: the others.
      graph: as in `fx_nnx.split`, which takes the model apart after the call.
    """
    return _Call((graphdef, state, *states), graph)


# Calling needs to merge and split, which need the class; so the method is added here.
GraphDef.apply = apply
