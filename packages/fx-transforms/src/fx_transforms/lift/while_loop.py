"""Functions of scopes repeated while a condition holds."""

from collections.abc import Callable, Mapping
from typing import Any

from fx_core.scope import CollectionFilter

from fx_transforms.lift.explain import explaining
from fx_transforms.lift.filters import rng_slots, split_names
from fx_transforms.scope_carrier import ScopeCarrier
from fx_transforms.slot import ABSENT, CARRY, Place, Slot
from fx_transforms.while_loop import while_loop as while_groups

__all__ = ["while_loop"]


def while_loop(
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    scope: Any,
    init: Any,
    carry_variables: CollectionFilter = False,
    broadcast_variables: CollectionFilter = True,
    split_rngs: Mapping[Any, bool] = {},
) -> Any:
    """Repeats ``body_fn(scope, carry) -> carry`` while ``cond_fn(scope, carry)`` holds; see `jax.lax.while_loop`.

    Args:
      cond_fn: the condition.
      body_fn: the body. Variables are created before the loop, not in it.
      scope: a scope or a tree of scopes.
      init: the first carry.
      carry_variables: collections that a step takes from the one before.
      broadcast_variables: collections that all steps read.
      split_rngs: for each filter of streams whether step i folds i into the keys.

    Returns:
      the last carry.

    Raises:
      CarryChangedError: the carry, or a carried variable, changes its structure, shape or dtype.
      CollectionNotLiftedError: a collection that no argument names is used.
      RngNotLiftedError: a function uses an RNG stream that ``split_rngs`` does not name.
    """
    streams, stream_slots = rng_slots(split_rngs)
    ins, outs = (carry_variables, broadcast_variables), (carry_variables, False)
    carrier = ScopeCarrier(ins, outs, streams, "while_loop", whole=(0,), own=split_names(split_rngs))
    slots = [CARRY, Slot(Place.SHARED, ABSENT), *stream_slots]
    with explaining(carrier, scope):
        return while_groups(cond_fn, body_fn, carrier, slots)(scope, init)
