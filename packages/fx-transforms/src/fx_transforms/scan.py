"""scan over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fx_transforms.axes import broadcast, check_new_axes, check_slots, common_size, front, restore, split_keys, spread
from fx_transforms.carrier import Carrier, Chosen, Groups, run
from fx_transforms.errors import BroadcastVariableError, TransformError, transform_output
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
    count = len(slots)

    @functools.wraps(fn)
    def call(handle: Any, init: Any, *args: Any) -> Any:
        shape, groups = carrier.split(handle)
        groups = tuple(slot.opened(group) for slot, group in zip(slots, groups))
        (leaves, treedef), axes = jax.tree.flatten(args), spread(in_axes, args)
        size = common_size(transform, carrier, slots, groups, args, axes, length, "length", first=2)
        writes = carrier.writes(shape)
        used = [slot if written else slot.unwritten() for slot, written in zip(slots, writes, strict=True)]
        # What goes in: the groups and, after them, the leaves of the arguments. What comes out: groups and results.
        given = [None if slot.into is Place.ABSENT else group for slot, group in zip(used, groups)]
        given += [jnp.asarray(x) if isinstance(axis, int) else x for x, axis in zip(leaves, axes)]
        places = [*(slot.into for slot in used), *(axis if isinstance(axis, int) else None for axis in axes)]
        ins = _ways(places)
        kept, carried, cut = (way.take(given) for way in ins)
        start, latest = [shape], list[Any]()

        def step(known: Any, carry: Any, xs: Any) -> tuple[Any, Any, Any]:
            parts = _together(given, ins, (known, carry[0], xs))
            merged = parts[:count] if on_groups is None else on_groups(parts[:count])
            inputs = jax.tree.unflatten(treedef, parts[count:])
            after, new, out = run(carrier, fn, start[-1], merged, carry[1], *inputs)
            c, y = pair(transform, out)
            (results, treedef_out), axes_out = jax.tree.flatten(y), spread(out_axes, y)
            check_new_axes(transform, carrier, used, new, y, axes_out)
            places_out = [Place.CARRY if slot.into is Place.CARRY else slot.out for slot in used]
            places_out += [axis if isinstance(axis, int) else Place.SHARED for axis in axes_out]
            outs = _ways(places_out)
            shared, carried_out, stacked = (way.take([*new, *results]) for way in outs)
            if shared and not check_constancy:
                old = dict(zip(ins.kept.indices, known))
                _refuse_shared(transform, carrier, old, dict(zip(outs.kept.indices, shared)), count)
                shared = ()
            latest[:] = after, outs, places_out, treedef_out
            return shared, (carried_out, c), (after, stacked)

        def again(shared: Any) -> Any:
            start.append(carrier.follow(shape, latest[0]))
            new = {number: group for number, group in zip(latest[1].kept.indices, shared) if number < count}
            if start[-1] == shape and not jax.tree.leaves(new):
                return None
            return [new.get(number, group) for number, group in zip(ins.kept.indices, kept)]

        shares = any(slot.out is Place.SHARED for slot in used)
        shares = shares or any(axis is broadcast for axis in jax.tree.leaves(out_axes))
        shared, (carried, carry), (after, stacked) = loop_steps(
            step,
            kept,
            (carried, init),
            [_cut(part, place, size) for part, place in zip(cut, ins.cut.take(places))],
            again=again if check_constancy and (shares or rehearse(groups)) else None,
            transform=transform,
            name_shared=lambda path: name_shared(carrier, latest[1].kept.indices, count, path),
            name_carry=lambda path: name_carry(carrier, ins.carried.indices, path),
            length=size,
            **options,
        )
        _, outs, places_out, treedef_out = latest
        stacked = [_uncut(part, place) for part, place in zip(stacked, outs.cut.take(places_out))]
        parts = _together([None] * len(places_out), outs, (shared or (), carried, stacked))
        new = tuple(slot.closed(group) for slot, group in zip(used, parts))
        return carrier.absorb(handle, after, new, (carry, jax.tree.unflatten(treedef_out, parts[count:])))

    return call


def pair(transform: str, out: Any) -> tuple[Any, Any]:
    """Checks that a body returned two things."""
    if not isinstance(out, tuple) or len(out) != 2:
        raise transform_output(transform, "a tuple (carry, y)", out)
    return out


def name_shared(carrier: Carrier[Any], numbers: Sequence[int], count: int, path: tuple[Any, ...]) -> str:
    """Names a leaf of what steps share: groups, of which there are ``count``, and results."""
    number = numbers[path[0].idx]
    return carrier.label(number, path[1:]) if number < count else "a result whose out_axes is `broadcast`"


def name_carry(carrier: Carrier[Any], indices: Sequence[int], path: tuple[Any, ...]) -> str:
    """Names a leaf of ``(carried groups, carry)``."""
    if path[0].idx == 0 and len(path) > 1:
        return carrier.label(indices[path[1].idx], path[2:])
    return "carry" + jax.tree_util.keystr(path[1:])


def _refuse_shared(
    transform: str, carrier: Carrier[Any], before: dict[int, Any], after: dict[int, Any], count: int
) -> None:
    """Without the invariance check shared state comes back as it went in; creating some would lose it."""
    for number, part in after.items():
        if number >= count:
            raise TransformError(
                f"A result that all steps of {transform} share needs check_constancy_invariants=True.",
                expected="out_axes without `broadcast`",
                got=broadcast,
                fix="give the result an axis or leave the check on",
            )
        shapes = [jax.tree.map(jax.typeof, tree) for tree in (before.get(number, {}), part)]
        known = {path for path, _ in jax.tree_util.tree_leaves_with_path(shapes[0])}
        new = [path for path, _ in jax.tree_util.tree_leaves_with_path(shapes[1]) if path not in known]
        if new:
            names = [carrier.label(number, path) for path in new]
            raise BroadcastVariableError(transform, names, "is created inside, without check_constancy_invariants")


class _Ways(NamedTuple):
    """Which parts take each of the three ways into steps, or out of them.

    Attributes:
      kept: those that all steps share.
      carried: those that a step hands on to the next.
      cut: those of which each step has its own.
    """

    kept: Chosen
    carried: Chosen
    cut: Chosen


def _ways(places: Sequence[Any]) -> _Ways:
    """Deals out parts by their places, each an axis or a `Place`; those with another one take no way."""
    return _Ways(
        Chosen([i for i, place in enumerate(places) if place is Place.SHARED]),
        Chosen([i for i, place in enumerate(places) if place is Place.CARRY]),
        Chosen([i for i, place in enumerate(places) if isinstance(place, int) or place is Place.KEYS]),
    )


def _together(parts: Sequence[Any], ways: Sequence[Chosen], found: Sequence[Any]) -> tuple[Any, ...]:
    """Puts what came on each way in its place among all parts."""
    together = tuple(parts)
    for way, some in zip(ways, found):
        together = way.put(together, some)
    return together


def _cut(part: Any, place: Any, size: int) -> Any:
    """Puts the axis to cut along in front, or splits keys."""
    return split_keys(part, size) if place is Place.KEYS else jax.tree.map(lambda x: front(x, place), part)


def _uncut(part: Any, place: Any) -> Any:
    """Puts the axis along which a loop stacked in its place."""
    return jax.tree.map(lambda x: restore(x, place), part)
