"""Functions of modules with a backward pass of their own."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter
from fx_transforms import lift

from fx_linen.transforms._call import Call, method_of
from fx_linen.transforms.vjp import only_scope

__all__ = ["custom_vjp"]


def custom_vjp(
    fn: Callable[..., Any],
    forward_fn: Callable[..., Any],
    backward_fn: Callable[..., Any],
    grad_vars: CollectionFilter = "params",
    nondiff_argnums: int | Sequence[int] = (),
) -> Callable[..., Any]:
    """Defines the backward rule of ``fn(module, *args)``; see `jax.custom_vjp`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class SignGradients(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         def run(dense, x):
    ...             return dense(x)
    ...         def forward(dense, x):
    ...             return nn.vjp(run, dense, x)
    ...         def backward(vjp_fn, y_t):
    ...             params_t, x_t = vjp_fn(y_t)
    ...             return jax.tree.map(jnp.sign, params_t), x_t
    ...         return nn.custom_vjp(run, forward, backward)(nn.Dense(1), x)
    >>> variables = SignGradients().init(jax.random.key(0), jnp.ones(2))
    >>> grads = jax.grad(lambda v: SignGradients().apply(v, jnp.full(2, -3.0)).sum())(variables)
    >>> grads["params"]["Dense_0"]["bias"], grads["params"]["Dense_0"]["kernel"].ravel()
    (Array([1.], dtype=float32), Array([-1., -1.], dtype=float32))

    Args:
      fn: computes the result where no gradient is taken.
      forward_fn: ``(module, *args) -> (out, residuals)``.
      backward_fn: ``(*nondiff, residuals, cotangent) -> (variable_cotangents, *arg_cotangents)``, the first as
        `vjp` gives it.
      grad_vars: collections that get cotangents.
      nondiff_argnums: positions of static arguments; the module is position 0.

    Returns:
      A function ``(module, *args)``.

    Raises:
      UnsupportedOperationError: when called: the module holds modules from elsewhere.
    """
    method, forward = method_of(fn), method_of(forward_fn)

    def backward(*inputs: Any) -> Any:
        variables_t, *rest = backward_fn(*inputs)
        return [variables_t], *rest

    @functools.wraps(method)
    def lifted(module: Any, *args: Any) -> Any:
        call = Call(module, args, {})
        only_scope("custom_vjp", call.scopes, "Give each module a rule of its own, or make the modules inside the one.")

        def primal(scopes: Any, *args: Any) -> Any:
            return call.run(method, scopes, args, {})

        def with_residuals(scopes: Any, *args: Any) -> Any:
            return call.run(forward, scopes, args, {})

        rule = lift.custom_vjp(primal, with_residuals, backward, grad_vars, nondiff_argnums)
        out = rule(call.scopes, *call.args)
        call.finish()
        return out

    return lifted
