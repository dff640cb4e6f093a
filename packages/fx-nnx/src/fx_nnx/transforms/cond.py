"""cond and switch."""

from collections.abc import Callable, Sequence
from typing import Any

import fx_transforms
from fx_core.errors import ArgumentError

from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.eager import are_arrays, compiled_once
from fx_nnx.transforms.jit import Watch
from fx_nnx.transforms.layout import Handle, on_tree
from fx_nnx.transforms.policies import GraphMode, GroupPolicy, Returns, graph_mode
from fx_nnx.transforms.targets import Targets

__all__ = ["cond", "switch"]


def cond(
    pred: Any,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: Any,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Calls one of two functions of modules and arrays, by a traced condition.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> counter = nnx.Dict(n=nnx.Variable(jnp.array(0)))
    >>> def up(counter):
    ...     counter.n[...] += 1
    >>> cond(True, up, lambda counter: None, counter)
    >>> int(counter.n[...])
    1

    Args:
      pred: the condition.
      true_fun: called with the operands if it holds; may change them.
      false_fun: called otherwise.
      *operands: modules and arrays.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: False lets only values of variables come out.

    Raises:
      BranchStateError: the functions leave different structures, or results of different shapes, behind.
    """
    return _select("cond", (true_fun, false_fun), pred, operands, graph_mode(graph, graph_updates))


def switch(
    index: Any,
    branches: Sequence[Callable[..., Any]],
    *operands: Any,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Calls one of several functions of modules and arrays, by a traced index, which is clamped into range.

    Args:
      index: which function.
      branches: the functions; they may change the operands.
      *operands: modules and arrays.
      graph: as in `cond`.
      graph_updates: as in `cond`.

    Raises:
      ArgumentError: there are no branches.
      BranchStateError: the functions leave different structures, or results of different shapes, behind.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> scale = nnx.Param(jnp.full((), 3.0))
    >>> branches = [lambda scale, x: x, lambda scale, x: scale * x]
    >>> float(nnx.switch(1, branches, scale, jnp.ones(())))
    3.0
    """
    if not branches:
        raise ArgumentError("switch needs at least one branch.", got=branches)
    return _select("switch", tuple(branches), index, operands, graph_mode(graph, graph_updates))


def _select(transform: str, branches: Sequence[Any], which: Any, operands: tuple[Any, ...], mode: GraphMode) -> Any:
    targets = Targets(branches)

    def lift(watched: Watch) -> fx_transforms.Lifted:
        carrier = ObjectCarrier(mode, groups=[GroupPolicy(None, Returns.ALL)], transform=transform)
        fns = [watched(call) for call in targets.calls]
        if transform == "cond":
            return fx_transforms.cond(fns[0], fns[1], carrier)
        return fx_transforms.switch(fns, carrier)

    once = are_arrays(operands, numpy=True)
    select = compiled_once(transform, branches, mode, lift) if once else lift(on_tree)
    return select(Handle(targets.tree(operands)), which)
