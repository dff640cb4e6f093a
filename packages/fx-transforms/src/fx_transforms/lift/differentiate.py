"""Derivatives of functions of scopes: value_and_grad, vjp, jvp, custom_vjp."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core.scope import CollectionFilter

from fx_transforms.custom_rule import custom_vjp as custom_vjp_groups
from fx_transforms.differentiate import jvp as jvp_groups
from fx_transforms.differentiate import value_and_grad as grad_groups
from fx_transforms.differentiate import vjp as vjp_groups
from fx_transforms.lift.explain import explained, explaining
from fx_transforms.scope_carrier import ScopeCarrier, ScopeTree
from fx_transforms.static import Static

__all__ = ["custom_vjp", "jvp", "value_and_grad", "vjp"]


def value_and_grad(
    fn: Callable[..., Any],
    scope: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Differentiates the scalar ``fn(scope, *primals)`` with respect to all primals; see `jax.value_and_grad`.

    Args:
      fn: gives a scalar, or ``(scalar, aux)``.
      scope: a scope or a tree of scopes.
      *primals: arguments.
      has_aux: whether ``fn`` gives more than the scalar.
      reduce_axes: of no effect, JAX has dropped it.
      variables: collections that take part; they get no gradient.
      rngs: streams that take part.

    Returns:
      ``(value, grads)`` or ``(value, aux, grads)``, the gradients as a tuple.

    Raises:
      TransformOutputError: ``fn`` does not give a scalar, or no pair where ``has_aux`` says so.
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` draws from a stream that ``rngs`` does not name.
    """
    del reduce_axes
    carrier = ScopeCarrier([variables], [variables], [rngs], "value_and_grad")
    numbers = range(1, len(primals) + 1)
    with explaining(carrier, scope):
        out, (_, grads) = grad_groups(fn, carrier, wrt=(), argnums=numbers, has_aux=has_aux)(scope, *primals)
    return (*out, grads) if has_aux else (out, grads)


def vjp(
    fn: Callable[..., Any],
    scope: Any,
    *primals: Any,
    has_aux: bool = False,
    reduce_axes: Sequence[Any] = (),
    vjp_variables: CollectionFilter = "params",
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Linearizes ``fn(scope, *primals)`` backwards, with respect to variables and all primals; see `jax.vjp`.

    Args:
      fn: the function.
      scope: a scope or a tree of scopes.
      *primals: arguments.
      has_aux: whether ``fn`` gives ``(out, aux)``.
      reduce_axes: of no effect, JAX has dropped it.
      vjp_variables: collections that get cotangents. Variables that ``fn`` creates get none.
      variables: all collections that take part.
      rngs: streams that take part.

    Returns:
      ``(out, backward)`` or ``(out, backward, aux)``, where ``backward(cotangent)`` gives
      ``(variable_cotangents, *primal_cotangents)``, the first a dictionary of collections for each scope. The function
      ``backward`` is a pytree.

    Raises:
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` draws from a stream that ``rngs`` does not name.
    """
    del reduce_axes
    filters = [vjp_variables, variables]
    carrier = ScopeCarrier(filters, filters, [rngs], "vjp")
    with explaining(carrier, scope):
        out, backward, *aux = vjp_groups(fn, carrier, has_aux=has_aux)(scope, *primals)
    tree = ScopeTree(scope)
    wrapped = jax.tree_util.Partial(_backward, Static((tree.treedef, tree.places)), backward)
    return (out, wrapped, *aux)


def _backward(spec: Static, backward: Callable[..., Any], cotangent: Any) -> Any:
    (group,), *rest = backward(cotangent)
    treedef, places = spec.value
    return jax.tree.unflatten(treedef, [_below(group[index], names) for index, names in places]), *rest


def _below(collections: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """What an inner scope sees of the variables of an outer one."""
    for name in names:
        collections = {col: xs[name] for col, xs in collections.items() if name in xs}
    return collections


def jvp(
    fn: Callable[..., Any],
    scope: Any,
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    variable_tangents: Any,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Pushes tangents through ``fn(scope, *primals)``; see `jax.jvp`.

    Args:
      fn: the function.
      scope: a scope or a tree of scopes.
      primals: arguments.
      tangents: their tangents.
      variable_tangents: for each scope a dictionary of collections of tangents, with the structure of the variables;
        collections that it lacks stand still.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      ``(out, out_tangent)``.

    Raises:
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` draws from a stream that ``rngs`` does not name.
    """
    tree = ScopeTree(scope)
    pushed = tuple(
        _moving(root.variables(), tangents)
        for root, tangents in zip(tree.roots, _per_root(tree.treedef, tree.places, variable_tangents))
    )
    moving: list[CollectionFilter] = [frozenset(col for tangent in pushed for col in tangent)]
    carrier = ScopeCarrier([*moving, variables], [*moving, variables], [rngs], "jvp")
    with explaining(carrier, scope):
        return jvp_groups(fn, carrier)(scope, primals, tangents, (pushed, None, None))


def _moving(variables: Mapping[str, Any], tangents: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tangents without empty collections that the scope has no variables in, as when it is initialized."""
    return {col: xs for col, xs in tangents.items() if jax.tree.leaves(xs) or jax.tree.leaves(variables.get(col))}


def _per_root(treedef: Any, places: Any, tree: Any) -> tuple[Any, ...]:
    """The entries of the outermost scopes in a tree that has one entry per scope."""
    found: dict[int, Any] = {}
    for (index, names), entry in zip(places, treedef.flatten_up_to(tree)):
        if not names:
            found.setdefault(index, entry)
    return tuple(found[index] for index in sorted(found))


def custom_vjp(
    fn: Callable[..., Any],
    forward_fn: Callable[..., Any],
    backward_fn: Callable[..., Any],
    grad_vars: CollectionFilter = "params",
    nondiff_argnums: int | Sequence[int] = (),
) -> Callable[..., Any]:
    """Defines the backward rule of ``fn(scope, *args)``; see `jax.custom_vjp`.

    >>> import jax, jax.numpy as jnp
    >>> from fx_core.scope import apply
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
      fn: computes the result when nobody differentiates.
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
            return (_per_root(tree.treedef, tree.places, variables_t),), *rest

        rule = custom_vjp_groups(fn, forward_fn, backward, carrier, nondiff_argnums=nondiff_argnums)
        return rule(scopes, *args)

    return explained(carrier, call)
