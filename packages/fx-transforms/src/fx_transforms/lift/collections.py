"""Functions of scopes that see their variables in another form: map_variables, swap_collection."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
from fx_core.scope import CollectionFilter, DenyList, in_filter, intersect_filters, union_filters

from fx_transforms.carrier import Groups, Static, run
from fx_transforms.lift.explain import explained
from fx_transforms.scope_carrier import Frame, ScopeCarrier

__all__ = ["map_variables", "swap_collection"]


def map_variables(
    fn: Callable[..., Any],
    mapped_collections: CollectionFilter,
    map_in_fn: Callable[..., Any] = lambda tree: tree,
    map_out_fn: Callable[..., Any] = lambda tree: tree,
    init: bool = False,
    mutable: bool = False,
    rngs: CollectionFilter = True,
    variables: CollectionFilter = True,
) -> Callable[..., Any]:
    """Lets ``fn(scope, *args)`` see some collections through a function.

    >>> import jax, jax.numpy as jnp
    >>> from fx_core import apply
    >>> from fx_transforms import lift
    >>> def dense(scope, x):
    ...     return x @ scope.get_variable("params", "w")
    >>> tied = lift.map_variables(dense, "params", map_in_fn=lambda tree: jax.tree.map(jnp.transpose, tree))
    >>> apply(tied)({"params": {"w": jnp.ones((2, 3))}}, jnp.ones(3)).shape
    (2,)

    Args:
      fn: the function.
      mapped_collections: which collections.
      map_in_fn: from a dictionary of collections, as stored, to what ``fn`` sees.
      map_out_fn: from what ``fn`` leaves to what is stored.
      init: whether ``fn`` runs once more, before, to create the mapped collections where they are mutable.
      mutable: whether ``fn`` may write to the mapped collections.
      rngs: streams that take part.
      variables: other collections that take part.

    Returns:
      a function ``(scope, *args, **kwargs)``.
    """
    carrier = ScopeCarrier([mapped_collections, variables], [mapped_collections, variables], [rngs], "map_variables")

    @functools.wraps(fn)
    def call(scopes: Any, *args: Any, **kwargs: Any) -> Any:
        shape, (target, *rest) = carrier.split(scopes)
        created: Groups = ()
        if init and carrier.writes(shape)[0]:
            seen = _each(map_in_fn, target) if jax.tree.leaves(target) else target
            first = run(carrier, fn, shape, (seen, *rest), *args, **kwargs)
            created = _each(map_out_fn, first.groups[0])
            target = tuple(_with_new(old, new) for old, new in zip(target, created)) if target else created
            shape = carrier.follow(shape, first.shape)
        if not mutable:
            shape = with_mutable(shape, lambda m: intersect_filters(m, DenyList(mapped_collections)))
        seen = _each(map_in_fn, target)
        last = run(carrier, fn, shape, (seen, *rest), *args, **kwargs)
        # As in Flax, what was created is stored as ``fn`` has seen it: layers that normalize keep normalized weights.
        stored = _each(map_out_fn, last.groups[0] if mutable else seen) if mutable or created else ()
        return carrier.absorb(scopes, last.shape, (stored, *last.groups[1:]), last.out)

    return explained(carrier, call)


def _each(map_fn: Callable[..., Any], group: Groups) -> Groups:
    return tuple(map_fn(collections) for collections in group)


def _with_new(old: Any, new: Any) -> Any:
    """The old variables and those that came to them; ``new`` has others in the place of the old ones."""
    if not isinstance(old, Mapping):
        return old
    variables = dict(cast("Mapping[Any, Any]", old))
    return variables | {key: _with_new(old[key], x) if key in old else x for key, x in new.items()}


def with_mutable(shape: Static, change: Callable[[Any], Any]) -> Static:
    """Returns a shape whose inner scopes have another filter of mutable collections."""
    treedef, frames, places = shape.value
    changed: tuple[Frame, ...] = tuple(frame._replace(mutable=change(frame.mutable)) for frame in frames)
    return Static((treedef, changed, places), shape.note)


def swap_collection(fn: Callable[..., Any], col_a: str, col_b: str) -> Callable[..., Any]:
    """Lets ``fn(scope, *args)`` see one collection in the place of another, and the other way round.

    Args:
      fn: the function.
      col_a: one collection.
      col_b: the other.

    Returns:
      a function ``(scope, *args, **kwargs)``.
    """
    other = {col_a: col_b, col_b: col_a}
    filters = [frozenset(other), True]
    carrier = ScopeCarrier(filters, filters, [True], "swap_collection")

    def swapped(group: Any) -> Any:
        return tuple({other[col]: xs for col, xs in collections.items()} for collections in group)

    def mutable_inside(mutable: Any) -> Any:
        inside = frozenset(other[col] for col in other if in_filter(mutable, col))
        return union_filters(intersect_filters(mutable, DenyList(frozenset(other))), inside)

    @functools.wraps(fn)
    def call(scopes: Any, *args: Any, **kwargs: Any) -> Any:
        shape, (pair, *rest) = carrier.split(scopes)
        outcome = run(carrier, fn, with_mutable(shape, mutable_inside), (swapped(pair), *rest), *args, **kwargs)
        pair, *rest = outcome.groups
        return carrier.absorb(scopes, outcome.shape, (swapped(pair), *rest), outcome.out)

    return explained(carrier, call)
