"""NNX modules as functions, for whoever exports them."""

from collections.abc import Callable
from typing import Any

import jax
from fx_core.compat import jax as compat
from fx_core.errors import ArgumentTypeError

from fx_nnx.graph.functions import merge, split
from fx_nnx.modules.module import Module
from fx_nnx.rngs import RngState
from fx_nnx.states.pure import replace_by_pure_dict, to_pure_dict


def as_function(
    model: Module, variables: Any, *, method: str = "__call__", **call: Any
) -> tuple[Callable[..., Any], dict[Any, Any]]:
    """Returns a module as a pure function of its variables and inputs; see `fx_core.plugins.ModelEntry`.

    Args:
      model: the module; RNG streams stay as they are now, and nothing that is returned may depend on them.
      variables: nested dicts of other values for its variables; None for its own.
      method: name of what to call.
      **call: keyword arguments of it.

    Raises:
      ArgumentTypeError: the call changes variables, or returns random values, as dropout does in
        training: a function of the inputs would return the same each time. Raised when it is traced.

    Example:
      >>> import fx_nnx as nnx, jax.numpy as jnp
      >>> fn, variables = as_function(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), None)
      >>> fn(variables, jnp.ones((4, 3))).shape
      (4, 2)
    """
    graphdef, streams, state = split(model, RngState, ...)
    # Copies: what is exported has nothing to do with what later becomes of the model.
    streams, state = jax.tree.map(lambda leaf: leaf, (streams, state))

    def run(streams: Any, variables: Any, *inputs: Any) -> tuple[Any, Any, Any]:
        filled = jax.tree.map(lambda leaf: leaf, state)
        replace_by_pure_dict(filled, variables)
        running = merge(graphdef, streams, filled, copy=True)
        result = getattr(running, method)(*inputs, **call)
        _, drawn_from, after = split(running, RngState, ...)
        return result, _leaves(drawn_from), to_pure_dict(after)

    def fn(variables: Any, *inputs: Any) -> Any:
        result, drawn_from, after = run(streams, variables, *inputs)
        _refuse_changes(variables, after)
        if any(drawn_from.get(path) is not leaf for path, leaf in _leaves(streams).items()):
            traced = jax.jit(lambda *given: run(*given)[0]).trace(streams, variables, *inputs)
            _refuse_draws(traced.jaxpr, list(_leaves(streams)))
        return result

    return fn, to_pure_dict(state) if variables is None else variables


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
