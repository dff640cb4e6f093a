"""checkify."""

from collections.abc import Callable
from typing import Any

import fx_transforms
from fx_core.compat.jax import checkify as jax_checkify

from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle, on_tree
from fx_nnx.transforms.policies import graph_mode
from fx_nnx.transforms.targets import Target, transformed

__all__ = ["checkify"]


def checkify(
    f: Callable[..., Any],
    errors: Any = jax_checkify.user_checks,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Converts the run-time checks in a function of modules into an error value, see `jax.experimental.checkify`.

    Args:
      f: the function, which may change its arguments.
      errors: which checks.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Returns:
      a function of ``(error, result)``.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> from jax.experimental import checkify
    >>> def log(scale, x):
    ...     checkify.check(x > 0, "x must be positive")
    ...     return jnp.log(x) * scale
    >>> error, y = nnx.checkify(log)(nnx.Param(jnp.ones(())), jnp.zeros(()))
    >>> "x must be positive" in error.get()
    True
    """
    carrier = ObjectCarrier(graph_mode(graph, graph_updates), transform="checkify")
    target = Target(f)
    lifted = fx_transforms.checkify(on_tree(target.call), carrier, errors=errors)
    return transformed(target, lambda *tree: lifted(Handle(tree)))
