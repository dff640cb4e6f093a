"""Axes of what is mapped: sizes, prefixes, cutting and stacking, keys per step."""

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import lax

from fx_transforms.carrier import Carrier, Groups
from fx_transforms.errors import AxisSizeError, TransformError, aliased_state
from fx_transforms.slot import Place, Slot

__all__ = [
    "Sized",
    "broadcast",
    "check_aliases",
    "check_new_axes",
    "check_slots",
    "common_size",
    "front",
    "restore",
    "split_keys",
    "spread",
]

Sized = tuple[str, Any, int]
"""A mapped array: a name for messages, the array, its axis."""


class _Broadcast:
    """The axis of what every step shares."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "broadcast"

    def __reduce__(self) -> str:
        return "broadcast"


broadcast: Final = _Broadcast()
"""In place of an axis: an argument that every step sees whole, or a result that is the same in every step."""


def spread(prefix: Any, tree: Any) -> list[Any]:
    """Returns one entry of the prefix per leaf of the tree. `None` is an entry of its own in the prefix.

    >>> spread((0, None), ({"a": 1, "b": 2}, 3))
    [0, 0, None]
    """
    entries, treedef = jax.tree.flatten(prefix, is_leaf=_is_none)
    return [entry for entry, part in zip(entries, treedef.flatten_up_to(tree)) for _ in jax.tree.leaves(part)]


_is_none = functools.partial(operator.is_, None)


def front(x: Any, axis: int) -> Any:
    """Moves an axis to the front, where loops cut."""
    # Not `jnp.moveaxis`, which is a jitted function: tracing its call costs more than the loop adds otherwise.
    if axis == 0:
        return x
    order = [*range(jnp.ndim(x))]
    return lax.transpose(x, (order.pop(axis), *order))


def restore(x: Any, axis: int) -> Any:
    """Moves the axis along which a loop stacked to its place."""
    if axis == 0:
        return x
    order = [*range(1, jnp.ndim(x))]
    order.insert(axis if axis > 0 else len(order) + 1 + axis, 0)
    return lax.transpose(x, order)


def check_new_axes(
    transform: str, carrier: Carrier[Any], slots: Sequence[Slot], groups: Groups, out: Any, axes: Sequence[Any]
) -> None:
    """Refuses axes that what one step gives cannot be stacked along.

    Args:
      transform: name for the message.
      carrier: names the arrays in groups.
      slots: the slot of each group.
      groups: the groups of one step.
      out: its results.
      axes: for each leaf of the results its axis, or something else if it has none.

    Raises:
      TransformError: a value has too few dimensions for its axis.
    """
    named = [
        (carrier.label(index, path), leaf, slot.out)
        for index, (slot, group) in enumerate(zip(slots, groups, strict=True))
        if isinstance(slot.out, int)
        for path, leaf in jax.tree_util.tree_leaves_with_path(group)
    ]
    results = zip(jax.tree_util.tree_leaves_with_path(out), axes)
    named += [("the result" + jax.tree_util.keystr(p), x, axis) for (p, x), axis in results if isinstance(axis, int)]
    for name, value, axis in named:
        if not -jnp.ndim(value) - 1 <= axis <= jnp.ndim(value):
            raise TransformError(
                f"{transform} cannot stack {name} along axis {axis}.",
                expected=f"an axis between {-jnp.ndim(value) - 1} and {jnp.ndim(value)}",
                got=f"axis {axis} for values of shape {jnp.shape(value)} in each step",
                fix="correct out_axes for a result, the axis of the collection for a variable",
            )


def split_keys(keys: Any, size: int) -> Any:
    """Cuts every key of a tree into ``size`` keys along a new first axis."""
    return jax.tree.map(lambda key: jax.random.split(key, size), keys)


def group_arrays(carrier: Carrier[Any], slots: Sequence[Slot], groups: Groups) -> Iterator[Sized]:
    """Returns the mapped arrays among the groups."""
    for index, (slot, group) in enumerate(zip(slots, groups, strict=True)):
        if isinstance(slot.into, int):
            for path, leaf in jax.tree_util.tree_leaves_with_path(group):
                yield carrier.label(index, path), leaf, slot.into


def arg_arrays(args: tuple[Any, ...], axes: Sequence[Any], first: int = 1) -> Iterator[Sized]:
    """Returns the mapped arrays among arguments, given one axis per leaf; ``first`` is the number of the first
    argument.
    """
    for (path, leaf), axis in zip(jax.tree_util.tree_leaves_with_path(args), axes, strict=True):
        if isinstance(axis, int):
            rest = jax.tree_util.keystr(path[1:])
            yield f"argument {path[0].idx + first}{rest} of shape {jnp.shape(leaf)} (axis {axis})", leaf, axis  # type: ignore[union-attr]


def common_size(
    transform: str,
    carrier: Carrier[Any],
    slots: Sequence[Slot],
    groups: Groups,
    args: tuple[Any, ...],
    axes: Sequence[Any],
    requested: int | None,
    option: str,
    first: int = 1,
) -> int:
    """Returns the size that all mapped axes share; ``first`` is the number of the first argument, for messages.

    Raises:
      AxisSizeError: the sizes differ, from each other or from the one requested, or there is none.
    """
    mapped = [
        (leaf, slot.into)
        for slot, group in zip(slots, groups, strict=True)
        if isinstance(slot.into, int)
        for leaf in jax.tree.leaves(group)
    ]
    mapped += [(leaf, axis) for leaf, axis in zip(jax.tree.leaves(args), axes) if isinstance(axis, int)]
    sizes: list[Any] = [_size(leaf, axis) for leaf, axis in mapped]
    found = {*sizes} if requested is None else {*sizes, requested}
    if len(found) == 1 and None not in found:
        return found.pop()
    named: dict[str, int] = {}
    for name, leaf, axis in (*group_arrays(carrier, slots, groups), *arg_arrays(args, axes, first)):
        shape = jnp.shape(leaf)
        if not -len(shape) <= axis < len(shape):
            named[f"{name}, of shape {shape}, which lacks axis {axis},"] = 0
        else:
            named[name] = shape[axis]
    raise AxisSizeError(transform, named, requested, option)


def _size(leaf: Any, axis: int) -> int | None:
    shape = jnp.shape(leaf)
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def check_slots(
    transform: str, carrier: Carrier[Any], slots: Sequence[Slot], places: Iterable[Place], axes: bool
) -> None:
    """Refuses slots that a transform has no use for.

    Raises:
      TransformError: a slot is neither an axis (where ``axes``) nor one of ``places``.
    """
    allowed = {*places, Place.ABSENT}
    for index, slot in enumerate(slots):
        for place in (slot.into, slot.out):
            if not ((isinstance(place, int) and axes) or place in allowed):
                names = [repr(p) for p in sorted(allowed, key=lambda p: p.value)] + ["an axis"] * axes
                raise TransformError(
                    f"{transform} has no such place for {carrier.label(index, ())}.",
                    expected=", ".join(names),
                    got=repr(place),
                    fix="choose one of those slots",
                )


def check_aliases(transform: str, places: Iterable[tuple[int, str, Any]]) -> None:
    """Refuses one piece of state that comes in with two slots.

    Args:
      transform: name for the message.
      places: identity of the state (its `id`), path, and slot or anything else that has to agree.

    Raises:
      TransformError: two places of one identity disagree.

    >>> import fx_transforms
    >>> kernel = object()
    >>> fx_transforms.check_aliases("vmap", [(id(kernel), "encoder/kernel", 0), (id(kernel), "decoder/kernel", 0)])
    """
    seen: dict[int, tuple[str, Any]] = {}
    for identity, path, slot in places:
        first = seen.setdefault(identity, (path, slot))
        if first[1] != slot:
            raise aliased_state(transform, first, (path, slot))
