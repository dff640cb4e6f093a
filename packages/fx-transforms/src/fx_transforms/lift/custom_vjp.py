"""Functions of scopes with a backward pass of their own."""

from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter

from fx_transforms.custom_vjp import custom_vjp as custom_vjp_groups
from fx_transforms.lift.explain import explained
from fx_transforms.lift.vjp import per_root
from fx_transforms.scope_carrier import ScopeCarrier, ScopeTree

__all__ = ["custom_vjp"]


def custom_vjp(
    fn: Callable[..., Any],
    forward_fn: Callable[..., Any],
    backward_fn: Callable[..., Any],
    grad_vars: CollectionFilter = "params",
    nondiff_argnums: int | Sequence[int] = (),
) -> Callable[..., Any]:
    """Defines the backward rule of ``fn(scope, *args)``; see `jax.custom_vjp`.

    >>> import jax, jax.numpy as jnp
    >>> from fx_core import apply
    >>> from fx_transforms import lift
    >>> def scale(scope, x):
    ...     return x * scope.get_variable("params", "scale")
    >>> def forward(scope, x):
    ...     return lift.vjp(scale, scope, x)
    >>> def backward(vjp_fn, y_t):
    ...     params_t, x_t = vjp_fn(y_t)
    ...     return jax.tree.map(jnp.sign, params_t), x_t
    >>> signed = apply(lift.custom_vjp(scale, forward, backward))
    >>> jax.grad(signed)({"params": {"scale": 2.0}}, -3.0)
    {'params': {'scale': Array(-1., dtype=float32, weak_type=True)}}

    Args:
      fn: computes the result where no gradient is taken.
      forward_fn: ``(scope, *args) -> (out, residuals)``.
      backward_fn: ``(*nondiff, residuals, cotangent) -> (variable_cotangents, *arg_cotangents)``, the first as
        `vjp` gives it.
      grad_vars: collections that get cotangents.
      nondiff_argnums: positions of static arguments; the scope is position 0.

    Returns:
      a function ``(scope, *args)``.
    """
    carrier = ScopeCarrier([grad_vars, True], [grad_vars, True], [True], "custom_vjp")

    def call(scopes: Any, *args: Any) -> Any:
        tree = ScopeTree(scopes)

        def backward(*inputs: Any) -> Any:
            variables_t, *rest = backward_fn(*inputs)
            return (per_root(tree.treedef, tree.places, variables_t),), *rest

        rule = custom_vjp_groups(fn, forward_fn, backward, carrier, nondiff_argnums=nondiff_argnums)
        return rule(scopes, *args)

    return explained(carrier, call)
