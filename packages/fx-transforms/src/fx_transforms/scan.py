"""scan over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fx_transforms.axes import check_new_axes, check_slots, common_size, front, new_group_axes, restore, split_keys
from fx_transforms.axes_scan import ByAxis, broadcast
from fx_transforms.carrier import Carrier, Groups, run
from fx_transforms.errors import BroadcastVariableError, transform_output
from fx_transforms.slot import Place, Slot
from fx_transforms.steps import loop_steps

__all__ = ["scan"]


def scan(
    fn: Callable[..., Any],
    carrier: Carrier[Any],
    slots: Sequence[Slot],
    *,
    in_axes: Any = 0,
    out_axes: Any = 0,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    split_transpose: bool = False,
    check_constancy: bool = True,
    on_groups: Callable[[Groups], Groups] | None = None,
    rehearse: Callable[[Groups], bool] = lambda groups: False,
    transform: str = "scan",
) -> Callable[..., Any]:
    """Loops ``fn(inner, carry, *args) -> (carry, y)`` over an axis of state and arguments.

    State that all steps share may be created in the loop: it is computed once, before the loop, and then the steps find
    it there. Shared groups have to come out whole.

    Args:
      fn: function of the merged state, the carry and slices.
      carrier: what splits and merges the state.
      slots: one per group: axes, `SHARED`, `CARRY` or `KEYS`.
      in_axes: axes of the arguments after the carry, a prefix of their tree; `broadcast` shares an argument.
      out_axes: axes of the results, a prefix of their tree.
      length: number of steps; needed only when nothing has a mapped axis.
      reverse: whether to begin at the end.
      unroll: steps per iteration of the compiled loop.
      split_transpose: see `jax.lax.scan`.
      check_constancy: whether shared state may be created or changed, see `fx_transforms.axes_scan.scan`.
      on_groups: applied to the groups inside each step, for sharding constraints.
      rehearse: whether the body is traced before the loop also where nothing shared is written, so that the carrier
        can let counters go on from there.
      transform: name for messages.

    Returns:
      a function ``(handle, carry, *args) -> (carry, ys)`` that changes the handle as the steps did.

    Raises:
      AxisSizeError: mapped axes of different sizes, or none at all.
      BroadcastVariableError: shared state that depends on the step.
      CarryChangedError: the carry, or carried state, changes its structure, shapes or dtypes.
      TransformError: ``fn`` does not return a pair.
      TransformError: a slot other than those above.

    >>> import jax.numpy as jnp
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params"], [False], [])
    >>> scope = fx_core.Scope({"params": {"scale": jnp.array([1.0, 2.0, 3.0])}}, {})
    >>> layer = lambda scope, x: (x * scope.get_variable("params", "scale"), None)
    >>> out, _ = fx_transforms.scan(layer, carrier, [fx_transforms.axis(0)])(scope, 1.0)
    >>> float(out)
    6.0
    """
    check_slots(transform, carrier, slots, (Place.SHARED, Place.CARRY, Place.KEYS), axes=True)
    options = {"reverse": reverse, "unroll": unroll, "_split_transpose": split_transpose}

    @functools.wraps(fn)
    def call(handle: Any, init: Any, *args: Any) -> Any:
        shape, groups = carrier.split(handle)
        groups = tuple(slot.opened(group) for slot, group in zip(slots, groups))
        given = ByAxis(in_axes, args)
        size = common_size(transform, carrier, slots, groups, args, given.axes, length, "length", first=2)
        writes = carrier.writes(shape)
        deal = _Deal([slot if written else slot.unwritten() for slot, written in zip(slots, writes, strict=True)])
        kept_args, cut_args = given.parted(args)
        cut_args = [front(jnp.asarray(x), axis) for x, axis in zip(cut_args, given.mapped)]
        kept, carried, cut = deal.inwards(groups, size)
        results: list[ByAxis] = []
        start, ends = [shape], [shape]

        def step(known: Any, carry: Any, xs: Any) -> tuple[Any, Any, Any]:
            (carried, c), (cut, cut_args) = carry, xs
            merged = deal.together(known, carried, cut)
            if on_groups is not None:
                merged = on_groups(merged)
            inputs = given.joined(kept_args, cut_args)
            after, new, out = run(carrier, fn, start[-1], merged, c, *inputs)
            ends[:] = [after]
            c, y = pair(transform, out)
            results[:] = [ByAxis(out_axes, y)]
            same, each = results[0].stacked(y, check_constancy, transform)
            check_new_axes(transform, new_group_axes(carrier, deal.slots, new))
            shared_out, carried_out, stacked = deal.outwards(new)
            if not check_constancy:
                _refuse_new(transform, carrier, deal, known, shared_out)
                shared_out = ()
            return (shared_out, same), (carried_out, c), (after, stacked, each)

        def again(both: Any) -> Any:
            shared, _ = both
            start.append(carrier.follow(shape, ends[0]))
            if start[-1] == shape and not jax.tree.leaves(shared):
                return None
            return deal.kept_again(kept, shared)

        shares = deal.shares_out or any(axis is broadcast for axis in jax.tree.leaves(out_axes))
        both, (carried, carry), (after, stacked, ys) = loop_steps(
            step,
            kept,
            (carried, init),
            (cut, cut_args),
            again=again if check_constancy and (shares or rehearse(groups)) else None,
            transform=transform,
            name_shared=lambda path: name_shared(carrier, deal.shared_out, path),
            name_carry=lambda path: name_carry(carrier, deal.carried, path),
            length=size,
            **options,
        )
        shared, same = both if both is not None else ((), ())
        new = deal.back(shared, carried, stacked)
        ys = [restore(y, axis) for y, axis in zip(ys, results[0].mapped)]
        return carrier.absorb(handle, after, new, (carry, results[0].joined(same, ys)))

    return call


def pair(transform: str, out: Any) -> tuple[Any, Any]:
    """Checks that a body returned two things."""
    if not isinstance(out, tuple) or len(out) != 2:
        raise transform_output(transform, "a tuple (carry, y)", out)
    return out


def name_shared(carrier: Carrier[Any], indices: Sequence[int], path: tuple[Any, ...]) -> str:
    """Names a leaf of ``(shared groups, shared results)``."""
    if path[0].idx == 0:
        return carrier.label(indices[path[1].idx], path[2:])
    return "a result whose out_axes is `broadcast`"


def name_carry(carrier: Carrier[Any], indices: Sequence[int], path: tuple[Any, ...]) -> str:
    """Names a leaf of ``(carried groups, carry)``."""
    if path[0].idx == 0 and len(path) > 1:
        return carrier.label(indices[path[1].idx], path[2:])
    return "carry" + jax.tree_util.keystr(path[1:])


def _refuse_new(transform: str, carrier: Carrier[Any], deal: "_Deal", before: Any, after: Any) -> None:
    """Without the invariance check shared state comes back as it went in; creating some would lose it."""
    old = dict(zip(deal.kept, before))
    for index, group in zip(deal.shared_out, after):
        shapes = [jax.tree.map(jax.typeof, tree) for tree in (old.get(index, {}), group)]
        known = {path for path, _ in jax.tree_util.tree_leaves_with_path(shapes[0])}
        new = [path for path, _ in jax.tree_util.tree_leaves_with_path(shapes[1]) if path not in known]
        if new:
            names = [carrier.label(index, path) for path in new]
            raise BroadcastVariableError(transform, names, "is created inside, without check_constancy_invariants")


class _Deal:
    """Deals groups out to the three ways into a loop, and gathers them again."""

    def __init__(self, slots: Sequence[Slot]):
        self.slots = slots
        self.kept = [i for i, s in enumerate(slots) if s.into is Place.SHARED]
        self.carried = [i for i, s in enumerate(slots) if s.into is Place.CARRY]
        self.cut = [i for i, s in enumerate(slots) if isinstance(s.into, int) or s.into is Place.KEYS]
        self.shared_out = [i for i, s in enumerate(slots) if s.out is Place.SHARED]
        self.stacked = [i for i, s in enumerate(slots) if isinstance(s.out, int)]
        self.absent = [i for i, s in enumerate(slots) if s.into is Place.ABSENT]
        self.shares_out = bool(self.shared_out)

    def inwards(self, groups: Groups, size: int) -> tuple[list[Any], list[Any], list[Any]]:
        """``(kept, carried, cut)`` with the axis to cut along in front."""
        cut: list[Any] = []
        for i in self.cut:
            axis: Any = self.slots[i].into
            keys = axis is Place.KEYS
            cut.append(
                split_keys(groups[i], size) if keys else jax.tree.map(lambda x, at=axis: front(x, at), groups[i])
            )
        return [groups[i] for i in self.kept], [groups[i] for i in self.carried], cut

    def together(self, kept: Sequence[Any], carried: Sequence[Any], cut: Sequence[Any]) -> Groups:
        """The groups as a step gets them. A group that does not come in is what the carrier gave, which is empty."""
        found = {**dict(zip(self.kept, kept)), **dict(zip(self.carried, carried)), **dict(zip(self.cut, cut))}
        return tuple(found.get(i) for i in range(len(self.slots)))

    def kept_again(self, kept: Sequence[Any], shared: Sequence[Any]) -> list[Any]:
        """The groups that all steps see, once the shared ones have been computed."""
        new = dict(zip(self.shared_out, shared))
        return [new.get(i, group) for i, group in zip(self.kept, kept)]

    def outwards(self, groups: Groups) -> tuple[list[Any], list[Any], list[Any]]:
        """``(shared, carried, stacked)`` of the groups that a step made."""
        stacked = [groups[i] for i in self.stacked]
        return [groups[i] for i in self.shared_out], [groups[i] for i in self.carried], stacked

    def back(self, shared: Sequence[Any], carried: Sequence[Any], stacked: Sequence[Any]) -> Groups:
        """The groups as the caller gets them."""
        in_place: list[Any] = []
        for i, group in zip(self.stacked, stacked):
            axis: Any = self.slots[i].out
            in_place.append(self.slots[i].closed(jax.tree.map(lambda x, at=axis: restore(x, at), group)))
        found = dict(zip(self.shared_out, shared)) if shared else {}
        found |= {**dict(zip(self.carried, carried)), **dict(zip(self.stacked, in_place))}
        return tuple(found.get(i) for i in range(len(self.slots)))
