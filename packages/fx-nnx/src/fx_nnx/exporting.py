"""NNX modules as functions, for whoever exports them."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat
from fx_core.errors import ArgumentTypeError

from fx_nnx.graph.functions import merge, split
from fx_nnx.modules.module import Module
from fx_nnx.rngs import RngState
from fx_nnx.states.pure import replace_by_pure_dict, to_pure_dict
from fx_nnx.states.state import State
from fx_nnx.training.optimizer import ModelAndOptimizer
from fx_nnx.training.train_state import TrainState


def as_function(
    model: Module, variables: Any, *, method: str = "__call__", **call: Any
) -> tuple[Callable[..., Any], dict[Any, Any]]:
    """Returns a module as a pure function of its variables and inputs; see `fx_core.plugins.ModelEntry`.

    Args:
      model: the module, that of a `ModelAndOptimizer`; RNG streams stay as they are now, and nothing that is returned
        may depend on them.
      variables: nested dicts of other values for its variables; None for its own.
      method: name of what to call.
      **call: keyword arguments of it.

    Raises:
      ArgumentTypeError: the call changes variables, or attributes such that the next call computes something else, or
        returns random values, as dropout does in training: a function of the inputs would return the same each time.
        Raised when it is traced.
      ArgumentTypeError: the module has no such method, as an `Optimizer` has none.

    Example:
      >>> import fx_nnx as nnx, jax.numpy as jnp
      >>> fn, variables = as_function(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), None)
      >>> fn(variables, jnp.ones((4, 3))).shape
      (4, 2)
    """
    if isinstance(model, ModelAndOptimizer):
        # The state of the optimizer would be in the file, of several times as many bytes.
        model = model.model
    if not callable(getattr(model, method, None)):
        raise ArgumentTypeError(
            f"This module has no method {method!r}.",
            got=type(model).__qualname__,
            fix="Export the model itself, or choose the method by call={'method': …}.",
        )
    graphdef, streams, state = split(model, RngState, ...)
    # Copies: what is exported has nothing to do with what later becomes of the model.
    streams, state = jax.tree.map(lambda leaf: leaf, (streams, state))

    def run(streams: Any, variables: Any, *calls: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
        filled = jax.tree.map(lambda leaf: leaf, state)
        replace_by_pure_dict(filled, variables)
        running = merge(graphdef, streams, filled, copy=True)
        results = [getattr(running, method)(*inputs, **call) for inputs in calls]
        changed, drawn_from, after = split(running, RngState, ...)
        return results[-1], _leaves(drawn_from), to_pure_dict(after), changed

    def fn(variables: Any, *inputs: Any) -> Any:
        result, drawn_from, after, changed = run(streams, variables, inputs)
        _refuse_changes(variables, after)
        if changed != graphdef:
            # What a call before this one, with other inputs, would make of it.
            given = streams, variables, inputs, inputs
            alone = jax.jit(lambda s, v, _, last: run(s, v, last)[0]).trace(*given)
            second = jax.jit(lambda s, v, first, last: run(s, v, first, last)[0]).trace(*given)
            _refuse_other_program(alone.jaxpr, second.jaxpr)
        if any(drawn_from.get(path) is not leaf for path, leaf in _leaves(streams).items()):
            traced = jax.jit(lambda *given: run(*given)[0]).trace(streams, variables, inputs)
            _refuse_draws(traced.jaxpr, list(_leaves(streams)))
        return result

    return fn, to_pure_dict(state) if variables is None else variables


def of_train_state(state: TrainState[Any], variables: Any, **call: Any) -> tuple[Callable[..., Any], dict[Any, Any]]:
    """Returns the model of a training state as a pure function of its variables and inputs, see `as_function`.

    Args:
      state: the training state. Its ``params`` are used, and of its other fields those that are a state of the model
        with other variables; a second value for a variable, such as an average, is not.
      variables: see `as_function`.
      **call: see `as_function`.

    Raises:
      NnxError: fields of the state lack variables of the model.
      ArgumentTypeError: see `as_function`.
    """
    found: dict[Any, Any] = dict(state.params.flat_state())
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, State) and field.name != "opt_state":
            found = {**dict(value.flat_state()), **found}
    return as_function(merge(state.graphdef, State.from_flat_path(found), copy=True), variables, **call)


def _leaves(tree: Any) -> dict[Any, Any]:
    return dict(jax.tree_util.tree_leaves_with_path(tree))


def _refuse_changes(before: Any, after: Any) -> None:
    known = _leaves(after)
    changed = [path for path, leaf in _leaves(before).items() if known.get(path) is not leaf]
    if changed:
        raise ArgumentTypeError(
            "The call changes variables of the model.",
            got=_named(changed),
            fix="Call model.eval(), or export a function that takes what changes as an input and returns it.",
        )


def _refuse_other_program(first: Any, second: Any) -> None:
    """Refuse a model whose second call, after a change of attributes, is another program than its first one."""
    if _meaning(first) != _meaning(second):
        raise ArgumentTypeError(
            "The call changes attributes of the model, after which it computes something else.",
            expected="the same program each time: it is recorded once",
            fix="Keep what changes outside of the model, as an input and an output of the function that is exported.",
        )


def _meaning(closed: Any) -> list[Any]:
    """Describe how the outputs of a (closed) jaxpr come about, whatever the order of its equations."""
    known: dict[Any, Any] = {variable: ("input", n) for n, variable in enumerate(closed.jaxpr.invars)}
    for variable, const in zip(closed.jaxpr.constvars, closed.consts):
        known[variable] = str(variable.aval), np.asarray(const).tobytes()

    def read(atom: Any) -> Any:
        return (str(atom.aval), repr(atom.val)) if hasattr(atom, "val") else known[atom]

    for eqn in closed.jaxpr.eqns:
        # Functions are shown with their addresses.
        params = re.sub("0x[0-9a-f]+", "", str(sorted(eqn.params.items())))
        made = hash((eqn.primitive.name, params, *map(read, eqn.invars)))
        known.update((variable, (made, n)) for n, variable in enumerate(eqn.outvars))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _refuse_draws(closed: Any, paths: list[Any]) -> None:
    """Refuse a program whose outputs need some of its first inputs, which are RNG streams at these paths.

    Drawing alone is no reason: recurrent layers take a key for a first carry of zeros.
    """
    _, used = compat.prune_jaxpr(closed, [True] * len(closed.jaxpr.outvars))
    drawn = [path for path, needed in zip(paths, used) if needed]
    if drawn:
        raise ArgumentTypeError(
            "The call returns random values from RNG streams of the model, as dropout does in training.",
            got=_named([path[:-2] for path in drawn]),
            fix="Call model.eval(), or export a function that takes a PRNG key as an input.",
        )


def _named(paths: list[Any]) -> str:
    names = list(dict.fromkeys(jax.tree_util.keystr(path, simple=True, separator="/") for path in paths))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
