"""cond and switch of functions of scopes."""

from collections.abc import Callable, Sequence
from typing import Any

from fx_core.scope import CollectionFilter

from fx_transforms.cond import cond as cond_groups
from fx_transforms.cond import switch as switch_groups
from fx_transforms.lift.explain import explaining
from fx_transforms.scope_carrier import ScopeCarrier

__all__ = ["cond", "switch"]


def cond(
    pred: Any,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    scope: Any,
    *operands: Any,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Calls ``true_fun(scope, *operands)`` or ``false_fun(scope, *operands)``; see `jax.lax.cond`.

    Both are traced. Variables are created before, or by both.

    Args:
      pred: which one.
      true_fun: for true.
      false_fun: for false.
      scope: a scope or a tree of scopes.
      *operands: arguments.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      what the function returns.

    Raises:
      BranchStateError: the functions leave different variables, or results of different shapes, behind.
      CollectionNotLiftedError: a function uses a collection that ``variables`` does not name.
      RngNotLiftedError: a function uses an RNG stream that ``rngs`` does not name.
    """
    carrier = ScopeCarrier([variables], [variables], [rngs], "cond")
    with explaining(carrier, scope):
        return cond_groups(true_fun, false_fun, carrier)(scope, pred, *operands)


def switch(
    index: Any,
    branches: Sequence[Callable[..., Any]],
    scope: Any,
    *operands: Any,
    variables: CollectionFilter = True,
    rngs: CollectionFilter = True,
) -> Any:
    """Calls one of ``branches(scope, *operands)``; see `jax.lax.switch`.

    All are traced. Variables are created before, or by all.

    Args:
      index: which one; clamped into range.
      branches: the functions.
      scope: a scope or a tree of scopes.
      *operands: arguments.
      variables: collections that take part.
      rngs: streams that take part.

    Returns:
      what the function returns.

    Raises:
      BranchStateError: the functions leave different variables, or results of different shapes, behind.
      CollectionNotLiftedError: a function uses a collection that ``variables`` does not name.
      RngNotLiftedError: a function uses an RNG stream that ``rngs`` does not name.
    """
    carrier = ScopeCarrier([variables], [variables], [rngs], "switch")
    with explaining(carrier, scope):
        return switch_groups(branches, carrier)(scope, index, *operands)
