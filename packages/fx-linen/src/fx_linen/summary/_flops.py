"""How many floating point operations a call takes, as the compiler counts them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.summary import abstract, inexact
from fx_core.summary import count_flops as counted
from fx_transforms.carrier import Groups
from fx_transforms.scope_carrier import ScopeCarrier

from fx_linen.module import override_named_call
from fx_linen.module._context import context
from fx_linen.transforms._call import Call, method_of

__all__ = ["count_flops"]


def count_flops(
    bound: Any, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], forward: bool, backward: bool
) -> tuple[int, int]:
    """Traces a call anew, as ``apply`` would, on copies of all variables that it has, and count.

    Args:
      bound: the module, inside of ``init``, with the names given out as before the call and the variables of after it.
      fun: its method, or another function of it.
      args: the arguments.
      kwargs: more arguments.
      forward: count the call.
      backward: count the call with its gradient with respect to variables and arguments.

    Returns:
      Both counts, 0 for what was not wanted or cannot be counted on this platform, or has no gradient.
    """
    call, carrier = Call(bound, args, kwargs), ScopeCarrier([True], [True], [True])
    shape, (variables, streams) = carrier.split(call.scopes)
    leaves, tree = jax.tree.flatten((call.args, call.kwargs))
    dynamic = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]

    def run(variables: Groups, arrays: list[Any], streams: Groups) -> Any:
        rest = iter(arrays)
        args, kwargs = jax.tree.unflatten(tree, [next(rest) if d else leaf for leaf, d in zip(leaves, dynamic)])
        scopes = carrier.merge(shape, (variables, streams))
        for scope in scopes:
            scope.flags = {**scope.flags, "initializing": False}
        out = call.run(method_of(fun), scopes, args, kwargs)
        return [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "dtype")]  # methods may return anything

    def with_gradient(variables: Groups, arrays: list[Any], streams: Groups) -> Any:
        outputs, pull = jax.vjp(lambda v, a: inexact(run(v, a, streams)), variables, arrays)
        # With the outputs, else the compiler leaves out what only they need.
        return outputs, pull(jax.tree.map(jnp.ones_like, outputs))

    shapes = abstract((variables, [leaf for leaf, d in zip(leaves, dynamic) if d], streams))
    interceptors, context.interceptors = context.interceptors, []
    try:
        with override_named_call(False):
            return counted(run, *shapes) if forward else 0, _or_zero(with_gradient, shapes) if backward else 0
    finally:
        context.interceptors = interceptors


def _or_zero(with_gradient: Callable[..., Any], shapes: Any) -> int:
    try:
        return counted(with_gradient, *shapes)
    except ValueError as error:
        if "Reverse-mode differentiation does not work" in str(error):  # a loop whose end its data decide
            return 0
        raise
