"""Functions of scopes whose intermediate values are computed again in the backward pass."""

from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter

from fx_transforms.jit import positions
from fx_transforms.lift.dropped import refuse_dropped
from fx_transforms.lift.explain import explained
from fx_transforms.remat import remat as remat_groups
from fx_transforms.scope_carrier import ScopeCarrier

__all__ = ["checkpoint", "remat"]


def remat(
    fn: Callable[..., Any],
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
    concrete: bool = False,
    prevent_cse: bool = True,
    static_argnums: int | Sequence[int] = (),
    policy: Callable[..., bool] | None = None,
) -> Callable[..., Any]:
    """Recomputes ``fn(scope, *args)`` in the backward pass; see `jax.checkpoint`.

    Args:
      fn: the function.
      variables: collections that take part.
      rngs: streams that take part.
      concrete: False: JAX has dropped it; use ``static_argnums``.
      prevent_cse: `False` is right, and faster, inside scan.
      static_argnums: positions of Python arguments, counted from 0 for the first one *after* the scope.
      policy: what to keep all the same, one of `jax.checkpoint_policies`.

    Returns:
      a function ``(scope, *args, **kwargs)``.

    Raises:
      CollectionNotLiftedError: ``fn`` uses a collection that ``variables`` does not name.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``rngs`` does not name.
      UnsupportedOperationError: ``concrete`` is True.
    """
    refuse_dropped("remat", "concrete", concrete)
    carrier = ScopeCarrier([variables], [variables], [rngs], "remat")
    statics = tuple(n + 1 if n >= 0 else n for n in positions(static_argnums))
    saved = remat_groups(fn, carrier, prevent_cse=prevent_cse, static_argnums=statics, policy=policy)
    return explained(carrier, saved)


checkpoint = remat
