"""How many floating point operations a call takes, as the compiler counts them."""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core.summary import abstract, inexact
from fx_core.summary import count_flops as counted

from fx_linen.module import override_named_call
from fx_linen.module._context import context

__all__ = ["count_flops"]


def count_flops(
    bound: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], forward: bool, backward: bool
) -> tuple[int, int]:
    """Lower a call on its own and ask the compiler's cost analysis.

    Args:
      bound: the module, inside of ``init``.
      method: the method's name.
      args: its arguments.
      kwargs: more arguments.
      forward: count the call.
      backward: count the call with its gradient with respect to variables and arguments.

    Returns:
      Both counts, 0 for what was not wanted or cannot be counted on this platform.
    """
    module, variables = bound.unbind()
    keys = {name: jax.random.key(0) for name in bound.scope.rngs}
    leaves, tree = jax.tree.flatten((args, kwargs))
    dynamic = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]

    def run(variables: Any, arrays: list[Any]) -> Any:
        rest = iter(arrays)
        args, kwargs = jax.tree.unflatten(tree, [next(rest) if d else leaf for leaf, d in zip(leaves, dynamic)])
        out = module.apply(variables, *args, method=method, rngs=keys, mutable=True, **kwargs)[0]
        return [leaf for leaf in jax.tree.leaves(out) if hasattr(leaf, "dtype")]  # methods may return anything

    def with_gradient(variables: Any, arrays: list[Any]) -> Any:
        outputs, pull = jax.vjp(lambda v, a: inexact(run(v, a)), variables, arrays)
        return pull(jax.tree.map(jnp.ones_like, outputs))

    shapes = abstract((variables, [leaf for leaf, d in zip(leaves, dynamic) if d]))
    interceptors, context.interceptors = context.interceptors, []
    try:
        with override_named_call(False):
            return counted(run, *shapes) if forward else 0, counted(with_gradient, *shapes) if backward else 0
    finally:
        context.interceptors = interceptors
