"""pack: the way to a transform of one's own."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter, intersect_filters

from fx_transforms.carrier import Groups, Static
from fx_transforms.errors import TransformError
from fx_transforms.lift.collections import with_mutable
from fx_transforms.lift.explain import explained
from fx_transforms.scope_carrier import ScopeCarrier

__all__ = ["pack"]


def pack(
    fn: Callable[..., Any],
    in_variable_filters: Sequence[CollectionFilter],
    out_variable_filters: Sequence[CollectionFilter],
    rng_filters: Sequence[CollectionFilter],
    name: str | None = None,
    enable_kwargs: bool = False,
) -> Callable[..., Any]:
    """Takes scopes apart into groups of pytrees, for a transform that is not here.

    ``fn`` is called as ``fn(scope_fn, repack, variable_groups, rng_groups, *args)`` and returns
    ``(out, out_variable_groups)``. It hands the groups to some transform of JAX; inside,
    ``scope_fn(variable_groups, rng_groups, mutable_filter=True)`` makes scopes of them and ``repack(scopes)`` takes the
    new groups out. A group is a tuple with a dictionary of collections, or of streams, per outermost scope.

    >>> import jax
    >>> from fx_core import apply
    >>> def eager(body):
    ...     def inner(scope_fn, repack, variable_groups, rng_groups, *args):
    ...         scope = scope_fn(variable_groups, rng_groups)
    ...         return body(scope, *args), repack(scope)
    ...     return pack(inner, [True], [True], [True], name="eager")
    >>> apply(eager(lambda scope, x: x + scope.get_variable("params", "b")))({"params": {"b": 1}}, 2)
    3

    Args:
      fn: see above.
      in_variable_filters: collections of each group on the way in.
      out_variable_filters: collections of each group on the way out; others are immutable inside.
      rng_filters: streams of each group.
      name: name of the transform, for the debug paths of inner scopes.
      enable_kwargs: whether keyword arguments are allowed, and passed on to ``fn``.

    Returns:
      a function ``(scope, *args)``.

    Raises:
      TransformError: keyword arguments without ``enable_kwargs``.
    """
    carrier = ScopeCarrier(in_variable_filters, out_variable_filters, rng_filters, name)

    @functools.wraps(fn)
    def call(scopes: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs and not enable_kwargs:
            raise TransformError(
                f"{name or 'This lifted function'} takes no keyword arguments.",
                got=sorted(kwargs),
                fix="pass them by position, or pack with enable_kwargs=True",
            )
        shape, groups = carrier.split(scopes)
        after: list[Static] = [shape]

        def scope_fn(variable_groups: Groups, rng_groups: Groups, mutable_filter: CollectionFilter = True) -> Any:
            # Scopes made one after the other go on drawing where the last one stopped.
            start = with_mutable(carrier.follow(shape, after[0]), lambda m: intersect_filters(m, mutable_filter))
            return carrier.merge(start, (*variable_groups, *rng_groups))

        def repack(inner: Any) -> Groups:
            after[0], new, _ = carrier.collect(inner, None)
            return new[: len(carrier.outs)]

        count = len(carrier.ins)
        out, new = fn(scope_fn, repack, groups[:count], groups[count:], *args, **kwargs)
        return carrier.absorb(scopes, after[0], tuple(new), out)

    return explained(carrier, call)
