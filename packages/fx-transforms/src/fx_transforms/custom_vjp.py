"""custom_vjp over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from fx_transforms.carrier import Carrier, Chosen, Groups, Static, run

__all__ = ["custom_vjp"]


def custom_vjp(
    fn: Callable[..., Any],
    forward_fn: Callable[..., Any],
    backward_fn: Callable[..., Any],
    carrier: Carrier[Any],
    *,
    wrt: Sequence[int] = (0,),
    nondiff_argnums: int | Sequence[int] = (),
    with_state: bool = False,
) -> Callable[..., Any]:
    """Defines the backward rule of ``fn(inner, *args)``.

    Args:
      fn: computes the result where no gradient is taken.
      forward_fn: ``(inner, *args) -> (out, residuals)``, with the same ``out``.
      backward_fn: ``(*nondiff, residuals, cotangent) -> (group_cotangents, *arg_cotangents)``, the first a tuple in
        the order of ``wrt``.
      carrier: what splits and merges the state.
      wrt: indices of the groups that get cotangents; others get zero.
      nondiff_argnums: positions of static arguments; the state is position 0.
      with_state: whether ``backward_fn`` gets ``(state_cotangents, cotangent)`` in place of the cotangent: those of
        what ``forward_fn`` wrote, as groups. Without, they are dropped.

    Returns:
      a function ``(handle, *args)`` that changes the handle as ``fn``, or under differentiation ``forward_fn``, did.

    >>> import jax
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> def scale(scope, x):
    ...     return x * scope.get_variable("params", "scale")
    >>> def backward(residuals, cotangent):  # clips the gradient of x, and has none for the parameter
    ...     return (jax.tree.map(lambda leaf: leaf * 0, residuals),), cotangent.clip(-1, 1)
    >>> clipped = fx_transforms.custom_vjp(
    ...     scale, lambda scope, x: (scale(scope, x), ({"params": scope.variables()["params"]},)), backward, carrier
    ... )
    >>> scope = fx_core.Scope({"params": {"scale": jax.numpy.ones(())}}, {})
    >>> float(jax.grad(lambda x: 5 * clipped(scope, x))(2.0))
    1.0
    """
    groups_of = Chosen(wrt)
    nondiff = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)

    @functools.wraps(fn)
    def call(handle: Any, *args: Any) -> Any:
        shape, groups = carrier.split(handle)
        # Results of both functions need one tree structure, so the static shapes, which may differ, stay outside.
        after: list[Static] = [shape]

        def primal(groups: Groups, *args: Any) -> Any:
            after[0], new, out = run(carrier, fn, shape, groups, *args)
            return new, out

        def forward(groups: Groups, *args: Any) -> Any:
            after[0], new, (out, residuals) = run(carrier, forward_fn, shape, groups, *args)
            return (new, out), residuals

        def backward(*args: Any) -> Any:
            *statics, residuals, (written, cotangent) = args
            state, *rest = backward_fn(*statics, residuals, (written, cotangent) if with_state else cotangent)
            return groups_of.put((None,) * len(groups), state), *rest

        rule: Any = jax.custom_vjp(primal, nondiff_argnums=nondiff)
        rule.defvjp(forward, backward)
        new, out = rule(groups, *args)
        return carrier.absorb(handle, after[0], new, out)

    return call
