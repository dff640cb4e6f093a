"""NNX modules as functions, for whoever exports them."""

from collections.abc import Callable
from typing import Any

import jax
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
      model: the module; RNG streams stay as they are now.
      variables: nested dicts of other values for its variables; None for its own.
      method: name of what to call.
      **call: keyword arguments of it.

    Raises:
      ArgumentTypeError: the call changes variables, which a function of the inputs cannot; raised when it is traced.

    Example:
      >>> import fx_nnx as nnx, jax.numpy as jnp
      >>> fn, variables = as_function(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), None)
      >>> fn(variables, jnp.ones((4, 3))).shape
      (4, 2)
    """
    graphdef, streams, state = split(model, RngState, ...)

    def fn(variables: Any, *inputs: Any) -> Any:
        filled = jax.tree.map(lambda leaf: leaf, state)
        replace_by_pure_dict(filled, variables)
        running = merge(graphdef, streams, filled, copy=True)
        result = getattr(running, method)(*inputs, **call)
        _refuse_changes(variables, to_pure_dict(split(running, RngState, ...)[2]))
        return result

    return fn, to_pure_dict(state) if variables is None else variables


def _refuse_changes(before: Any, after: Any) -> None:
    known = dict(jax.tree_util.tree_leaves_with_path(after))
    changed = [path for path, leaf in jax.tree_util.tree_leaves_with_path(before) if known.get(path) is not leaf]
    if changed:
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in changed]
        raise ArgumentTypeError(
            "The call changes variables of the model.",
            got=", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            fix="Call model.eval(), or export a function that takes what changes as an input and returns it.",
        )
