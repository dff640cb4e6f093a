"""The state of a gradient transformation, with each array in a variable that says what it belongs to."""

from collections.abc import Mapping
from typing import Any

import jax

from fx_nnx.filters import Filter
from fx_nnx.graph.functions import state
from fx_nnx.graph.packed import GraphState
from fx_nnx.objects.pytree import Pytree
from fx_nnx.paths import Path
from fx_nnx.states.pure import as_pure
from fx_nnx.states.sealed import seal, unseal
from fx_nnx.states.state import State
from fx_nnx.variables.variable import Variable

__all__ = ["OptArray", "OptState", "OptVariable", "boxed", "state_in", "unboxed"]

_VALUE_HOOKS = ("on_get_value", "on_set_value", "on_create_value")


class OptState(Variable[Any]):
    """The state of an optimizer; as a filter, everything an optimizer keeps.

    >>> import optax
    >>> import fx_nnx as nnx
    >>> optimizer = nnx.Optimizer(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optax.adam(0.1), wrt=nnx.Param)
    >>> sorted(nnx.state(optimizer, nnx.OptState))
    ['opt_state', 'step']
    """


class OptArray(OptState):
    """State of an optimizer that belongs to no parameter, such as a count.

    >>> import optax
    >>> import fx_nnx as nnx
    >>> optimizer = nnx.Optimizer(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optax.adam(0.1), wrt=nnx.Param)
    >>> type(optimizer.opt_state[0].count).__name__
    'OptArray'
    """


class OptVariable(OptState):
    """State of an optimizer that belongs to a parameter, whose type is in the metadata ``source_type``.

    >>> import optax
    >>> import fx_nnx as nnx
    >>> optimizer = nnx.Optimizer(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), optax.adam(0.1), wrt=nnx.Param)
    >>> momentum = optimizer.opt_state[0].mu["kernel"]
    >>> type(momentum).__name__, momentum.source_type.__name__, momentum.shape
    ('OptVariable', 'Param', (2, 1))
    """


def boxed(opt_state: Any, params: Any) -> Any:
    """Puts each array of the state of a gradient transformation into a variable.

    The state is what the transformation made of bare values, in whatever shape that is: placeholders, such as those of
    `optax.masked`, stay where they are. What a transformation keeps per parameter it keeps in a tree like that of the
    parameters, a `State` here, and so the path in that tree says whose it is.

    Args:
      opt_state: made by ``tx.init(as_pure(params))``.
      params: the parameters, a state with their variables.
    """
    sources = dict(params.flat_state()) if isinstance(params, State) else {}

    def box_tree(tree: Any) -> Any:
        if not isinstance(tree, State):
            return OptArray(tree)
        return tree.map(lambda path, leaf: jax.tree.map(lambda value: _box(value, _source(sources, path)), leaf))

    return seal(jax.tree.map(box_tree, opt_state, is_leaf=lambda x: isinstance(x, State)))


def unboxed(opt_state: Any) -> Any:
    """Returns the state as the gradient transformation knows it."""
    return unseal(as_pure(opt_state))


def state_in(values: Any, wrt: Filter, graph: bool | None = None) -> Any:
    """Returns the state in a `GraphState` or a module with values of parameters; other pytrees, states too, as they
    are.

    Args:
      values: any pytree.
      wrt: which variables of a module are meant.
      graph: as in `fx_nnx.split`.
    """
    if isinstance(values, GraphState):
        return values._state
    return state(values, wrt, graph=graph) if isinstance(values, Pytree) else values


def _source(sources: Mapping[Path, Any], path: Path) -> Any:
    # A parameter whose value is a pytree, or a state that keeps a dictionary per parameter, goes on below its path.
    return next((sources[path[:end]] for end in range(len(path), 0, -1) if path[:end] in sources), None)


def _box(value: Any, source: Any) -> OptState:
    if not isinstance(source, Variable):
        return OptArray(value)
    metadata = source.get_metadata(exclude_required=True)
    for name in _VALUE_HOOKS:  # they are about values of the parameter, not about those kept beside it
        metadata.pop(name, None)
    names = metadata.pop("optimizer_sharding", metadata.get("out_sharding"))
    if names is not None and getattr(value, "ndim", None) == len(names):
        metadata["out_sharding"] = names
    else:  # a reduced value, such as a row of a factored moment, has other axes than its parameter
        metadata.pop("out_sharding", None)
    return OptVariable(value, **{**metadata, "source_type": type(source)})
