"""Compiled functions of scopes."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter

from fx_transforms.carrier import run
from fx_transforms.jit import jit as jit_groups
from fx_transforms.lift.explain import explained
from fx_transforms.scope_carrier import ScopeCarrier

__all__ = ["fold_rngs", "jit"]


def jit(
    fn: Callable[..., Any],
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Iterable[str] = (),
    donate_argnums: int | Sequence[int] = (),
    device: Any = None,
    backend: str | None = None,
) -> Callable[..., Any]:
    """Compiles ``fn(scope, *args)``; see `jax.jit`.

    The compiled function is used again for every scope with variables of the same shapes, the same mutability and
    flags and the same number of keys drawn, wherever in a model it is: the path is folded into the keys first. Keep the
    function that this gives, the cache belongs to it.

    Args:
      fn: the function.
      variables: collections that take part.
      rngs: streams that take part.
      static_argnums: positions of arguments to compile for; the scope is position 0.
      static_argnames: names of keyword arguments to compile for.
      donate_argnums: positions of arguments whose buffers may be reused.
      device: see `jax.jit`.
      backend: see `jax.jit`.

    Returns:
      a function ``(scope, *args, **kwargs)``.

    Raises:
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.
    """
    carrier = ScopeCarrier([variables], [variables], [rngs], "jit", fold=True)
    placed: dict[str, Any] = {name: x for name, x in (("device", device), ("backend", backend)) if x is not None}
    compiled = jit_groups(
        fn,
        carrier,
        static_argnums=static_argnums,
        static_argnames=static_argnames,
        donate_argnums=donate_argnums,
        **placed,
    )
    return explained(carrier, compiled)


def fold_rngs(
    fn: Callable[..., Any], variables: CollectionFilter = True, rngs: CollectionFilter = True
) -> Callable[..., Any]:
    """Folds path and counters into the keys before ``fn(scope, *args)`` runs.

    The function then depends on the place of its scope by arrays only, which is what `jit` does for its cache.

    Args:
      fn: the function.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      a function ``(scope, *args, **kwargs)``.
    """
    carrier = ScopeCarrier([variables], [variables], [rngs], "fold_rngs", fold=True)

    @functools.wraps(fn)
    def call(scopes: Any, *args: Any, **kwargs: Any) -> Any:
        shape, groups = carrier.split(scopes)
        return carrier.absorb(scopes, *run(carrier, fn, shape, groups, *args, **kwargs))

    return explained(carrier, call)
