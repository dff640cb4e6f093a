"""Products with the Jacobian of functions of groups of state, in both modes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from fx_transforms.carrier import Carrier, Chosen, run
from fx_transforms.errors import transform_output

__all__ = ["jvp", "vjp"]


def vjp(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    *,
    wrt: Sequence[int] = (0,),
    has_aux: bool = False,
    transform: str = "vjp",
) -> Callable[..., Any]:
    """Linearizes ``fn(inner, *primals)`` backwards, with respect to groups of state and all primals.

    Args:
      fn: function of the merged state and arrays.
      carrier: what splits and merges the state.
      wrt: indices of the groups.
      has_aux: whether ``fn`` gives ``(out, aux)``.
      transform: name for messages.

    Returns:
      a function ``(handle, *primals) -> (out, backward)`` or ``(out, backward, aux)``. ``backward(cotangent)`` gives
      ``(group_cotangents, *primal_cotangents)``; it is a pytree and may cross transforms.

    Raises:
      TransformError: ``fn`` does not give a pair where ``has_aux`` says so.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": 2.0}}, {})
    >>> scale = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> out, backward = fx_transforms.vjp(scale, carrier)(scope, 3.0)
    >>> groups, x_gradient = backward(1.0)
    >>> float(out), float(x_gradient)
    (6.0, 2.0)
    """
    groups_of = Chosen(wrt)

    def call(handle: Any, *primals: Any) -> Any:
        shape, groups = carrier.split(handle)

        def forward(chosen: tuple[Any, ...], *primals: Any) -> Any:
            outcome = run(carrier, fn, shape, groups_of.put(groups, chosen), *primals)
            return first_of(transform, outcome.out, has_aux), outcome

        _, backward, outcome = jax.vjp(forward, groups_of.take(groups), *primals, has_aux=True)
        out = carrier.absorb(handle, *outcome)
        return (out[0], backward, out[1]) if has_aux else (out, backward)

    return call


def jvp(
    fn: Callable[..., Any], carrier: Carrier[Any], *, has_aux: bool = False, transform: str = "jvp"
) -> Callable[..., Any]:
    """Pushes tangents of groups and arguments through ``fn(inner, *primals)``.

    Args:
      fn: function of the merged state and arrays.
      carrier: what splits and merges the state.
      has_aux: whether ``fn`` gives ``(out, aux)``.
      transform: name for messages.

    Returns:
      a function ``(handle, primals, tangents, group_tangents) -> (out, out_tangent)``, with ``aux`` at the end if there
      is some. ``group_tangents`` has one entry per group, `None` for groups that are constant. State that ``fn`` writes
      comes back without tangents.

    Raises:
      TransformError: ``fn`` does not give a pair where ``has_aux`` says so.

    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": 2.0}}, {})
    >>> scale = lambda scope, x: x * scope.get_variable("params", "scale")
    >>> out, tangent = fx_transforms.jvp(scale, carrier)(scope, (3.0,), (1.0,), [None])
    >>> float(out), float(tangent)
    (6.0, 2.0)
    """

    def call(handle: Any, primals: Sequence[Any], tangents: Sequence[Any], group_tangents: Sequence[Any]) -> Any:
        shape, groups = carrier.split(handle)
        groups_of = Chosen([i for i, tangent in enumerate(group_tangents) if tangent is not None])

        def forward(chosen: tuple[Any, ...], *primals: Any) -> Any:
            outcome = run(carrier, fn, shape, groups_of.put(groups, chosen), *primals)
            return first_of(transform, outcome.out, has_aux), outcome

        _, out_tangent, outcome = jax.jvp(
            forward, (groups_of.take(groups), *primals), (groups_of.take(group_tangents), *tangents), has_aux=True
        )
        out = carrier.absorb(handle, *outcome)
        return (out[0], out_tangent, out[1]) if has_aux else (out, out_tangent)

    return call


def first_of(transform: str, out: Any, has_aux: bool) -> Any:
    """Returns what is linearized: the result, or its first part."""
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise transform_output(transform, "a tuple (out, aux), since has_aux=True", out)
    return out[0] if has_aux else out
