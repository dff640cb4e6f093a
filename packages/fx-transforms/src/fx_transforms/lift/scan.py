"""Functions of scopes repeated over axes of variables and inputs."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from fx_core import meta
from fx_core.collections import default_slots
from fx_core.plugins.registry import registry
from fx_core.scope import CollectionFilter, union_filters

from fx_transforms.carrier import Groups
from fx_transforms.lift.explain import explained
from fx_transforms.lift.filters import VariableAxes, rng_slots, split_names, variable_slots
from fx_transforms.lift.remat import remat
from fx_transforms.scan import scan as scan_groups
from fx_transforms.scope_carrier import ScopeCarrier
from fx_transforms.slot import CARRY, SHARED

__all__ = ["remat_scan", "scan"]


def scan(
    fn: Callable[..., Any],
    variable_axes: VariableAxes = {},  # noqa: B006 (never changed; the reference API's default)
    variable_broadcast: CollectionFilter = False,
    variable_carry: CollectionFilter = False,
    split_rngs: Mapping[Any, bool] = {},
    in_axes: Any = 0,
    out_axes: Any = 0,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
    _split_transpose: bool = False,
    data_transform: Callable[..., Any] | None = None,
    metadata_params: Mapping[Any, Any] = {},
    check_constancy_invariants: bool = True,
) -> Callable[..., Any]:
    """Loops ``fn(scope, carry, *xs) -> (carry, y)``; see `jax.lax.scan`.

    Where there are streams, or shared variables to write, the body is traced twice: keys are those of the second trace,
    shared variables those of the first. So are the numbers of Flax.

    Args:
      fn: the body.
      variable_axes: for each filter of collections the axis that has one entry per step.
      variable_broadcast: collections that all steps share. The body may create them; what it writes must be the same
        in every step.
      variable_carry: collections that a step takes from the one before. They exist before the loop.
      split_rngs: for each filter of streams whether every step gets a key of its own.
      in_axes: axes of the arguments after the carry; `fx_transforms.axes_scan.broadcast` shares an argument.
      out_axes: axes of the results.
      length: number of steps; needed only when nothing is mapped.
      reverse: whether to begin at the end.
      unroll: steps per iteration of the compiled loop.
      _split_transpose: see `jax.lax.scan`.
      data_transform: ``(variable_groups, rng_groups) -> (variable_groups, rng_groups)``, applied inside each step, for
        sharding constraints.
      metadata_params: passed to the `AxisMetadata` of variables when they gain or lose the axis.
      check_constancy_invariants: `False` saves a trace; then the body cannot create shared variables.

    Returns:
      a function ``(scope, carry, *xs) -> (carry, ys)``.

    Raises:
      AxisSizeError: mapped axes of different sizes, or none at all.
      BroadcastVariableError: a shared variable that differs between steps.
      CarryChangedError: the carry, or a carried variable, changes its structure, shape or dtype.
      CollectionNotLiftedError: ``fn`` uses a collection that no argument names.
      RngNotLiftedError: ``fn`` uses an RNG stream that ``split_rngs`` does not name.
    """
    reasons: dict[str, str] = {}
    if data_transform is None:  # which counts the groups
        more = default_slots("scan", [*variable_axes, variable_broadcast, variable_carry])
        variable_axes = {**variable_axes, **{name: slot for name, slot in more.items() if isinstance(slot, int)}}
        shared, carried = ({name for name, slot in more.items() if slot == way} for way in ("broadcast", "carry"))
        variable_broadcast = union_filters(variable_broadcast, shared) if shared else variable_broadcast
        variable_carry = union_filters(variable_carry, carried) if carried else variable_carry
        reasons = {name: _registered(name, more[name]) for name in (*shared, *carried)}
    ins, outs, slots = variable_slots(variable_axes)
    streams, stream_slots = rng_slots(split_rngs)
    first, slots = (variable_broadcast, variable_carry), [SHARED, CARRY, *slots]
    carrier = ScopeCarrier(
        [*first, *ins],
        [*first, *outs],
        streams,
        "scan",
        whole=(0, 1),
        own=split_names(split_rngs),
        reasons=reasons,
        axes=[(slot.into, slot.out) for slot in slots],
        metadata_params=metadata_params,
    )
    looped = scan_groups(
        fn,
        carrier,
        [*slots, *stream_slots],
        in_axes=in_axes,
        out_axes=out_axes,
        length=length,
        reverse=reverse,
        unroll=unroll,
        split_transpose=_split_transpose,
        check_constancy=check_constancy_invariants,
        on_groups=data_transform and functools.partial(_transform_groups, data_transform, 2 + len(ins)),
        rehearse=lambda groups: bool(jax.tree.leaves(groups[2 + len(ins) :])),
    )
    return explained(carrier, looped)


def _registered(collection: str, slot: Any) -> str:
    """Returns who gave a collection its place, for errors."""
    origin = registry().collections[collection].origin
    return f"registered with scan_slot={slot!r} by {origin.owner if origin else 'a plugin'}"


def _transform_groups(data_transform: Callable[..., Any], variables: int, groups: Groups) -> Groups:
    new, rngs = data_transform(groups[:variables], groups[variables:])
    return (*new, *rngs)


def remat_scan(
    body_fn: Callable[..., Any],
    lengths: Sequence[int],
    policy: Callable[..., bool] | None = None,
    variable_broadcast: CollectionFilter = False,
    variable_carry: CollectionFilter = False,
    variable_axes: VariableAxes = {True: 0},  # noqa: B006
    split_rngs: Mapping[Any, bool] = {True: True},
    metadata_params: Mapping[Any, Any] = {meta.PARTITION_NAME: None},
) -> Callable[..., Any]:
    """Repeats ``body_fn(scope, carry) -> carry`` in nested loops, to train deep networks in little memory.

    There are ``prod(lengths)`` steps. The backward pass keeps about ``sum(lengths)`` carries and recomputes the rest
    (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016).

    Args:
      body_fn: one layer.
      lengths: length of each loop, outermost first. Mapped variables have one axis per loop.
      policy: what to keep all the same, one of `jax.checkpoint_policies`.
      variable_broadcast: see `scan`.
      variable_carry: see `scan`.
      variable_axes: see `scan`.
      split_rngs: see `scan`.
      metadata_params: see `scan`; by default the axes of the loops have no partition name.

    Returns:
      a function ``(scope, carry) -> carry``.
    """
    options: dict[str, Any] = {
        "variable_broadcast": variable_broadcast,
        "variable_carry": variable_carry,
        "variable_axes": variable_axes,
        "split_rngs": split_rngs,
        "metadata_params": metadata_params,
    }

    def nested(scope: Any, carry: Any) -> Any:
        step = body_fn if len(lengths) == 1 else remat_scan(body_fn, lengths[1:], policy, **options)
        # Within the innermost of several loops recomputing would happen twice.
        kept = remat(step, policy=policy, prevent_cse=False) if len(lengths) > 1 else step

        def body(scope: Any, carry: Any) -> Any:
            return kept(scope, carry), ()

        return scan(body, length=lengths[0], **options)(scope, carry)[0]

    return nested
