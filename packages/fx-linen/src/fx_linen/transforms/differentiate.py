"""Derivatives of functions of modules: vjp, jvp, grad, value_and_grad, custom_vjp."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core.scope import CollectionFilter
from fx_transforms import lift

from fx_linen.transforms._call import Call, method_of
from fx_linen.transforms._direct import directly
from fx_linen.transforms._errors import ManyScopesError

__all__ = ["custom_vjp", "grad", "jvp", "value_and_grad", "vjp"]

Tangents = Mapping[str, Any]


def _only(transform: str, scopes: Sequence[Any], fix: str) -> None:
    """Check that all variables are in one place."""
    if len(scopes) > 1:
        raise ManyScopesError(transform, [scope.path_text for scope in scopes], fix)


def vjp(
    fn: Callable[..., Any],
    mdl: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    vjp_variables: CollectionFilter = "params",
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
    multi_scope: bool = False,
) -> Any:
    """Linearizes ``fn(module, *primals)`` backwards, with respect to variables and all primals; see `jax.vjp`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Twice(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         dense = nn.Dense(2, use_bias=False)
    ...         dense(x)  # creates the variables
    ...         y, backward = nn.vjp(lambda dense, x: dense(x), dense, x)
    ...         variables_t, x_t = backward(jnp.ones_like(y))
    ...         return variables_t["params"]["kernel"], x_t
    >>> (kernel_t, x_t), _ = Twice().init_with_output(jax.random.key(0), jnp.ones(3))
    >>> kernel_t.shape, x_t.shape
    ((3, 2), (3,))

    Args:
      fn: the function.
      mdl: a module.
      *primals: arguments.
      has_aux: whether ``fn`` gives ``(out, aux)``.
      reduce_axes: of no effect, JAX has dropped it.
      vjp_variables: collections that get cotangents. Variables that ``fn`` creates get none.
      variables: all collections that take part.
      rngs: streams that take part.
      multi_scope: whether the variables' cotangents come as a list, one dictionary for each place that the module has
        variables in: those of modules that it holds from elsewhere, in the order of its fields, then its own.

    Returns:
      ``(out, backward)`` or ``(out, backward, aux)``, where ``backward(cotangent)`` gives
      ``(variable_cotangents, *primal_cotangents)``, the first by collection. The function ``backward`` is a pytree.

    Raises:
      ManyScopesError: the module holds modules from elsewhere, without ``multi_scope``.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` draws from a stream that ``rngs`` does not name.
    """
    del reduce_axes

    def lifted(fn: Any, scopes: Any, *primals: Any) -> Any:
        if not multi_scope:
            _only("vjp", scopes, "Pass multi_scope=True, and expect one dictionary of cotangents per place.")
        return lift.vjp(
            fn, scopes, *primals, has_aux=has_aux, vjp_variables=vjp_variables, variables=variables, rngs=rngs
        )

    out, backward, *aux = directly(lifted, (fn,), mdl, *primals)
    if not multi_scope:
        backward = jax.tree_util.Partial(_of_one, backward)
    return (out, backward, *aux)


def _of_one(backward: Callable[..., Any], cotangent: Any) -> tuple[Any, ...]:
    variables_t, *rest = backward(cotangent)
    return (variables_t[0] if variables_t else {}, *rest)


def value_and_grad(
    fn: Callable[..., Any],
    mdl: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Differentiates the scalar ``fn(module, *primals)`` with respect to all primals; see `jax.value_and_grad`.

    For the gradient of parameters use `vjp` inside a network, `jax.grad` of ``apply`` outside.

    Args:
      fn: gives a scalar, or ``(scalar, aux)``.
      mdl: a module.
      *primals: arguments.
      has_aux: whether ``fn`` gives more than the scalar.
      reduce_axes: of no effect, JAX has dropped it.
      variables: collections that take part; they get no gradient.
      rngs: streams that take part.

    Returns:
      ``(value, grads)`` or ``((value, aux), grads)``, the gradients as a tuple with one entry per primal.

    Raises:
      TransformOutputError: ``fn`` does not give a scalar, or no pair where ``has_aux`` says so.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` draws from a stream that ``rngs`` does not name.
    """
    del reduce_axes
    lifted = functools.partial(lift.value_and_grad, has_aux=has_aux, variables=variables, rngs=rngs)
    *value, grads = directly(lifted, (fn,), mdl, *primals)
    return (tuple(value) if has_aux else value[0]), grads


def grad(
    fn: Callable[..., Any],
    mdl: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Returns the gradients of `value_and_grad` alone.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Slope(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         (x_grad,) = nn.grad(lambda dense, x: dense(x).sum(), nn.Dense(1, kernel_init=nn.initializers.ones), x)
    ...         return x_grad
    >>> Slope().init_with_output(jax.random.key(0), jnp.zeros(3))[0]
    Array([1., 1., 1.], dtype=float32)

    Args:
      fn: gives a scalar, or ``(scalar, aux)``.
      mdl: a module.
      *primals: arguments.
      has_aux: whether ``fn`` gives more than the scalar.
      reduce_axes: of no effect, JAX has dropped it.
      variables: collections that take part; they get no gradient.
      rngs: streams that take part.

    Returns:
      A tuple with one gradient per primal, with ``has_aux`` a pair of it and ``aux``.

    Raises:
      TransformOutputError: ``fn`` does not give a scalar, or no pair where ``has_aux`` says so.
    """
    value, grads = value_and_grad(
        fn, mdl, *primals, has_aux=has_aux, reduce_axes=reduce_axes, variables=variables, rngs=rngs
    )
    return (grads, value[1]) if has_aux else grads


def jvp(
    fn: Callable[..., Any],
    mdl: Any,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    variable_tangents: Tangents,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Pushes tangents through ``fn(module, *primals)``; see `jax.jvp`.

    Args:
      fn: the function.
      mdl: a module.
      primals: arguments.
      tangents: their tangents.
      variable_tangents: by collection, with the structure of the module's variables; collections that it lacks stand
        still.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      ``(out, out_tangent)``.

    Raises:
      ManyScopesError: the module holds modules from elsewhere.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` draws from a stream that ``rngs`` does not name.
    """

    def lifted(fn: Any, scopes: Any, primals: Any) -> Any:
        _only("jvp", scopes, "Push tangents through each module by itself, or make the modules inside the one.")
        pushed = [variable_tangents for _ in scopes]
        return lift.jvp(fn, scopes, primals, tangents, pushed, variables=variables, rngs=rngs)

    return directly(lifted, (fn,), mdl, primals)


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
      fn: computes the result when nobody differentiates.
      forward_fn: ``(module, *args) -> (out, residuals)``.
      backward_fn: ``(*nondiff, residuals, cotangent) -> (variable_cotangents, *arg_cotangents)``, the first as
        `vjp` gives it.
      grad_vars: collections that get cotangents.
      nondiff_argnums: positions of static arguments; the module is position 0.

    Returns:
      A function ``(module, *args)``.

    Raises:
      ManyScopesError: when called: the module holds modules from elsewhere.
    """
    method, forward = method_of(fn), method_of(forward_fn)

    def backward(*inputs: Any) -> Any:
        variables_t, *rest = backward_fn(*inputs)
        return [variables_t], *rest

    @functools.wraps(method)
    def lifted(module: Any, *args: Any) -> Any:
        call = Call(module, args, {})
        _only("custom_vjp", call.scopes, "Give each module a rule of its own, or make the modules inside the one.")

        def primal(scopes: Any, *args: Any) -> Any:
            return call.run(method, scopes, args, {})

        def with_residuals(scopes: Any, *args: Any) -> Any:
            return call.run(forward, scopes, args, {})

        rule = lift.custom_vjp(primal, with_residuals, backward, grad_vars, nondiff_argnums)
        out = rule(call.scopes, *call.args)
        call.finish()
        return out

    return lifted
