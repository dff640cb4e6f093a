"""remat."""

from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms

from fx_nnx.transforms.arguments import StaticArguments, decorating
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import Handle, on_tree
from fx_nnx.transforms.policies import graph_mode
from fx_nnx.transforms.targets import Target, transformed

__all__ = ["remat"]


@decorating
def remat(
    f: Callable[..., Any],
    *,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
    policy: Callable[..., bool] | None = None,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Recomputes what a function of modules computed in the backward pass, instead of keeping it.

    Args:
      f: the function, which may change its arguments; without it, a decorator is returned.
      prevent_cse: see `jax.checkpoint`; False is right, and faster, inside `scan`.
      static_argnums: positions of Python arguments, hashable ones.
      policy: what to keep all the same, one of `jax.checkpoint_policies`.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    >>> forward = nnx.remat(lambda model, x: model(x).sum())
    >>> nnx.grad(forward)(model, jnp.ones((4, 2))).kernel.shape
    (2, 1)
    """
    target, statics = Target(f), StaticArguments(f, "remat", static_argnums)

    carrier = ObjectCarrier(graph_mode(graph, graph_updates), transform="remat")
    lifted = fx_transforms.remat(on_tree(target.call), carrier, prevent_cse=prevent_cse, policy=policy)

    def call(args: Any, kwargs: Any, *rest: Any) -> Any:
        given, args, kwargs = statics.take(args, kwargs)
        return lifted(Handle((args, kwargs, *rest), given))

    return transformed(target, call)
