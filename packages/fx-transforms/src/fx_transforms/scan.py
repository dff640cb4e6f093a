"""scan over groups of state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from fx_transforms.axes import broadcast, check_new_axes, check_slots, common_size, front, restore, split_keys, spread
from fx_transforms.carrier import Carrier, Groups, Lifted, Outcome, Static, run
from fx_transforms.errors import BroadcastVariableError, TransformError, transform_output
from fx_transforms.slot import Place, Slot
from fx_transforms.steps import hide_static, loop_steps, show_static

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
) -> Lifted:
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

    def pure(shape: Static, groups: Groups, init: Any, *args: Any) -> Outcome:
        (leaves, treedef), axes = jax.tree.flatten(args), spread(in_axes, args)
        size = common_size(transform, carrier, slots, groups, args, axes, length, "length", first=2)
        writes = carrier.writes(shape)
        used = [slot if written else slot.unwritten() for slot, written in zip(slots, writes, strict=True)]
        # Parts have numbers: those of the groups and, after them, those of the leaves of the arguments.
        given = [None if slot.into is Place.ABSENT else group for slot, group in zip(used, groups)]
        given += [jnp.asarray(x) if isinstance(axis, int) else x for x, axis in zip(leaves, axes)]
        places = [*(slot.into for slot in used), *(axis if isinstance(axis, int) else None for axis in axes)]
        kept, carried, cut = by_way(given, places)
        start, latest = [shape], list[Any]()

        def step(known: Any, carry: Any, xs: Any) -> tuple[Any, Any, Any]:
            carried, state = show_static(carry)
            parts = dict(enumerate(given)) | known | carried | xs
            inner = tuple([parts[number] for number in range(count)])
            inputs = jax.tree.unflatten(treedef, [parts[number] for number in range(count, len(given))])
            inner = inner if on_groups is None else on_groups(inner)
            after, new, out = run(carrier, fn, start[-1], inner, state, *inputs)
            if not isinstance(out, tuple) or len(out) != 2:
                raise transform_output(transform, "a tuple (carry, y)", out)
            (results, treedef_out), axes_out = jax.tree.flatten(out[1]), spread(out_axes, out[1])
            places_out = [Place.CARRY if slot.into is Place.CARRY else slot.out for slot in used]
            places_out += [axis if isinstance(axis, int) else Place.SHARED for axis in axes_out]
            if any(place not in (0, -1) for place in places_out if isinstance(place, int)):  # which fit any array
                check_new_axes(transform, carrier, used, new, out[1], axes_out)
            shared, carried_out, stacked = by_way([*new, *results], places_out)
            if shared and not check_constancy:
                _refuse_shared(transform, carrier, known, shared, count)
                shared = {}
            latest[:] = after, places_out, treedef_out
            return shared, hide_static((carried_out, out[0])), (after, stacked)

        def again(shared: Any) -> Any:
            start.append(carrier.follow(shape, latest[0]))
            new = {number: group for number, group in shared.items() if number < count}
            if start[-1] == shape and not jax.tree.leaves(new):
                return None
            return {number: new.get(number, group) for number, group in kept.items()}

        shares = any(slot.out is Place.SHARED for slot in used)
        shares = shares or any(axis is broadcast for axis in jax.tree.leaves(out_axes))
        shared, carry, (after, stacked) = loop_steps(
            step,
            kept,
            hide_static((carried, init)),
            {
                number: split_keys(part, size)
                if places[number] is Place.KEYS
                else jax.tree.map(functools.partial(front, axis=cast(int, places[number])), part)
                for number, part in cut.items()
            },
            again=again if check_constancy and (shares or rehearse(groups)) else None,
            transform=transform,
            name_shared=lambda path: name_shared(carrier, count, path),
            name_carry=lambda path: name_carry(carrier, path),
            length=size,
            **options,
        )
        _, places_out, treedef_out = latest
        carried, state = show_static(carry)
        parts = dict.fromkeys(range(len(places_out))) | (shared or {}) | carried
        for number, part in stacked.items():
            parts[number] = jax.tree.map(functools.partial(restore, axis=places_out[number]), part)
        new = tuple([parts[number] for number in range(count)])
        results = [parts[number] for number in range(count, len(places_out))]
        return Outcome(after, new, (state, jax.tree.unflatten(treedef_out, results)))

    return Lifted(fn, carrier, pure)


def by_way(parts: Sequence[Any], places: Sequence[Any]) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    """Returns parts by their numbers: what all steps share, what they hand on, and what each has its own of.

    Args:
      parts: groups and leaves.
      places: of each an axis or a `Place`; parts with another one are in neither.
    """
    kept, carried, cut = dict[int, Any](), dict[int, Any](), dict[int, Any]()
    for number, (part, place) in enumerate(zip(parts, places)):
        if place is Place.SHARED:
            kept[number] = part
        elif place is Place.CARRY:
            carried[number] = part
        elif place is Place.KEYS or isinstance(place, int):
            cut[number] = part
    return kept, carried, cut


def name_shared(carrier: Carrier[Any], count: int, path: tuple[Any, ...]) -> str:
    """Names a leaf of what steps share: groups, of which there are ``count``, and results."""
    number = path[0].key
    return carrier.label(number, path[1:]) if number < count else "a result whose out_axes is `broadcast`"


def name_carry(carrier: Carrier[Any], path: tuple[Any, ...]) -> str:
    """Names a leaf of ``(carried groups, carry)``."""
    if path[0].idx == 0 and len(path) > 1:
        return carrier.label(path[1].key, path[2:])
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
