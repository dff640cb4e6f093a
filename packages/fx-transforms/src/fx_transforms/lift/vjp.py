"""Products with the Jacobian of functions of scopes, in both modes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core.scope import CollectionFilter

from fx_transforms.carrier import Static
from fx_transforms.lift.dropped import refuse_dropped
from fx_transforms.lift.explain import explaining
from fx_transforms.scope_carrier import ScopeCarrier, ScopeTree
from fx_transforms.vjp import jvp as jvp_groups
from fx_transforms.vjp import vjp as vjp_groups

__all__ = ["jvp", "vjp"]


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
      reduce_axes: empty: JAX sums over no named axes any more.
      vjp_variables: collections that get cotangents. Variables that ``fn`` creates get none.
      variables: all collections that take part.
      rngs: streams that take part.

    Returns:
      ``(out, backward)`` or ``(out, backward, aux)``, where ``backward(cotangent)`` gives
      ``(variable_cotangents, *primal_cotangents)``, the first a dictionary of collections for each scope. The function
      ``backward`` is a pytree.

    Raises:
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.
      UnsupportedOperationError: ``reduce_axes`` names axes.
    """
    refuse_dropped("vjp", "reduce_axes", reduce_axes)
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
        collections that it lacks are constant.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      ``(out, out_tangent)``.

    Raises:
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.
    """
    tree = ScopeTree(scope)
    pushed = tuple(
        _moving(root.variables(), tangents)
        for root, tangents in zip(tree.roots, per_root(tree.treedef, tree.places, variable_tangents))
    )
    moving: list[CollectionFilter] = [frozenset(col for tangent in pushed for col in tangent)]
    carrier = ScopeCarrier([*moving, variables], [*moving, variables], [rngs], "jvp")
    with explaining(carrier, scope):
        return jvp_groups(fn, carrier)(scope, primals, tangents, (pushed, None, None))


def _moving(variables: Mapping[str, Any], tangents: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tangents without empty collections that the scope has no variables in, as when it is initialized."""
    return {col: xs for col, xs in tangents.items() if jax.tree.leaves(xs) or jax.tree.leaves(variables.get(col))}


def per_root(treedef: Any, places: Any, tree: Any) -> tuple[Any, ...]:
    """The entries of the outermost scopes in a tree that has one entry per scope."""
    found: dict[int, Any] = {}
    for (index, names), entry in zip(places, treedef.flatten_up_to(tree)):
        if not names:
            found.setdefault(index, entry)
    return tuple(found[index] for index in sorted(found))
