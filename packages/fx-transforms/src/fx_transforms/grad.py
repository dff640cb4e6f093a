"""Gradients of functions of groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fx_transforms.carrier import Carrier, Chosen, run
from fx_transforms.errors import transform_output

__all__ = ["grad", "value_and_grad"]


def value_and_grad(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    *,
    wrt: Sequence[int] = (0,),
    argnums: Sequence[int] = (),
    has_aux: bool = False,
    allow_int: bool = False,
    holomorphic: bool = False,
    transform: str = "value_and_grad",
) -> Callable[..., Any]:
    """Differentiates the scalar ``fn(inner, *args)`` with respect to groups of state and arguments.

    Args:
      fn: gives a scalar, or ``(scalar, aux)``.
      carrier: what splits and merges the state.
      wrt: indices of the groups.
      argnums: positions of the arguments; the state is position 0.
      has_aux: whether ``fn`` gives more than the scalar.
      allow_int: see `jax.value_and_grad`.
      holomorphic: see `jax.value_and_grad`.
      transform: name for messages.

    Returns:
      a function ``(handle, *args) -> (out, (group_grads, arg_grads))`` that changes the handle as ``fn`` did; ``out``
      is what ``fn`` returned, the gradients are tuples in the order of ``wrt`` and ``argnums``.

    Raises:
      TransformError: ``fn`` does not give a scalar, or no pair where ``has_aux`` says so.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": 2.0}}, {})
    >>> loss = lambda scope, x: x * scope.get_variable("params", "scale") ** 2
    >>> value, (groups, _) = fx_transforms.value_and_grad(loss, carrier)(scope, 3.0)
    >>> float(value), float(groups[0][0]["params"]["scale"])
    (12.0, 12.0)
    """
    groups_of, args_of = Chosen(wrt), Chosen([i - 1 for i in argnums])

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Any:
        shape, groups = carrier.split(handle)

        def loss(chosen: tuple[Any, ...], chosen_args: tuple[Any, ...]) -> Any:
            merged = groups_of.put(groups, chosen)
            outcome = run(carrier, fn, shape, merged, *args_of.put(args, chosen_args), **kwargs)
            return scalar(transform, outcome.out, has_aux), outcome

        take = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True, allow_int=allow_int, holomorphic=holomorphic)
        (_, outcome), grads = take(groups_of.take(groups), args_of.take(args))
        return carrier.absorb(handle, *outcome), grads

    return call


def grad(fn: Callable[..., Any], carrier: Carrier[Any], *, has_aux: bool = False, **options: Any) -> Callable[..., Any]:
    """As `value_and_grad`, without the value: gives the gradients, or ``(gradients, aux)``.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": 2.0}}, {})
    >>> scale = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> groups, _ = fx_transforms.grad(scale, carrier)(scope, 3.0)
    >>> float(groups[0][0]["params"]["scale"])
    3.0
    """
    options.setdefault("transform", "grad")
    both = value_and_grad(fn, carrier, has_aux=has_aux, **options)

    @functools.wraps(fn)
    def call(handle: Any, *args: Any, **kwargs: Any) -> Any:
        out, grads = both(handle, *args, **kwargs)
        return (grads, out[1]) if has_aux else grads

    return call


def scalar(transform: str, out: Any, has_aux: bool) -> Any:
    """Returns the number to differentiate."""
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise transform_output(transform, "a tuple (loss, aux), since has_aux=True", out)
    loss: Any = out[0] if has_aux else out
    leaves = jax.tree.leaves(loss)
    if len(leaves) != 1 or leaves[0] is not loss or jnp.shape(loss) != ():
        got = jax.tree.map(jax.typeof, loss)
        raise transform_output(transform, "a scalar" + (" first" if has_aux else ", has_aux=False"), got)
    return loss
