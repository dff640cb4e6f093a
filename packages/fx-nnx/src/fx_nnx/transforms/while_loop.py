"""while_loop and fori_loop."""

import functools
from collections.abc import Callable
from typing import Any

import fx_transforms

from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.change import Returned
from fx_nnx.transforms.eager import compiled_once
from fx_nnx.transforms.jit import Watch
from fx_nnx.transforms.layout import Handle
from fx_nnx.transforms.policies import GroupPolicy, Returns, graph_mode
from fx_nnx.transforms.targets import Targets

__all__ = ["fori_loop", "while_loop"]


def while_loop(
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: Any,
    *,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Repeats a function of modules and arrays while a condition holds.

    Args:
      cond_fun: gives the condition for a value.
      body_fun: gives the next value, of the same structure; it may change the modules in it, but not their structure.
      init_val: the first value: a tree of modules and arrays.
      graph: False treats modules as trees, in which no object is shared.
      graph_updates: as in `jit`.

    Returns:
      The last value, with the caller's modules.

    Raises:
      CarryChangedError: the value changes its structure, shapes or dtypes.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> def double(counter):
    ...     counter.value.set_value(counter.value * 2)
    ...     return counter
    >>> counter = nnx.Dict(value=nnx.Variable(jnp.ones(())))
    >>> float(nnx.while_loop(lambda counter: counter.value < 10, double, counter).value.get_value())
    16.0
    """
    carrier, targets = _carrier("while_loop", graph, graph_updates), Targets((cond_fun, body_fun))
    cond, body = targets.calls

    def lift(watched: Watch) -> fx_transforms.Lifted:
        return fx_transforms.while_loop(
            watched(lambda carry, *tree: cond(*tree)),
            watched(lambda carry, *tree: Returned(body(*tree), ())),
            carrier,
            [fx_transforms.CARRY],
        )

    handle = Handle(targets.tree((init_val,)))
    compiled_once("while_loop", (cond_fun, body_fun), carrier.mode, lift)(handle, ())
    return carrier.carry_of(handle)


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: Any,
    *,
    unroll: int | bool | None = None,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Repeats a function of modules and arrays for a range of integers.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> def add(i, counter):
    ...     counter.n[...] += i
    ...     return counter
    >>> counter = fori_loop(0, 4, add, nnx.Dict(n=nnx.Variable(jnp.array(0))))
    >>> int(counter.n[...])
    6

    Args:
      lower: the first integer.
      upper: the end, exclusive.
      body_fun: gives the next value for an integer and a value; it may change the modules in it, but not their
        structure.
      init_val: the first value: a tree of modules and arrays.
      unroll: see `jax.lax.fori_loop`.
      graph: as in `while_loop`.
      graph_updates: as in `while_loop`.

    Returns:
      The last value, with the caller's modules.

    Raises:
      CarryChangedError: the value changes its structure, shapes or dtypes.
    """
    carrier, targets = _carrier("fori_loop", graph, graph_updates), Targets((body_fun,))
    (body,) = targets.calls

    def step(i: Any, carry: Any, args: Any, *rest: Any) -> Returned:
        del carry  # it is among the groups
        return Returned(body((i, *args), *rest), ())

    # Bounds that are numbers are part of what is compiled, as they are for JAX.
    fixed = (lower, upper) if type(lower) is int and type(upper) is int else None

    def lift(watched: Watch) -> fx_transforms.Lifted:
        loop = fx_transforms.fori_loop(watched(step), carrier, [fx_transforms.CARRY], unroll=unroll)
        if fixed is None:
            return loop
        pure = functools.partial(loop.pure, lower=lower, upper=upper, init=())
        return fx_transforms.Lifted(loop, carrier, pure)

    handle = Handle(targets.tree((init_val,)))
    loop = compiled_once("fori_loop", (body_fun,), (*carrier.mode, unroll, fixed), lift)
    loop(handle, *((lower, upper, ()) if fixed is None else ()))
    return carrier.carry_of(handle)


def _carrier(transform: str, graph: bool | None, graph_updates: bool | None) -> ObjectCarrier:
    groups = [GroupPolicy(None, Returns.ALL)]
    return ObjectCarrier(graph_mode(graph, graph_updates), groups=groups, carried=0, rigid=True, transform=transform)
