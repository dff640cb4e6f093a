"""Filters with axes, as users write them, turned into groups with slots."""

from collections.abc import Mapping
from typing import Any

from fx_core.scope import CollectionFilter, DenyList, in_filter
from fx_core.typing import In, Out

from fx_transforms.slot import ABSENT, KEYS, Place, Slot

__all__ = ["In", "Out", "VariableAxes", "rng_slots", "split_names", "variable_slots"]


VariableAxes = Mapping[Any, int | In[Any] | Out[Any] | None]


def variable_slots(
    axes: VariableAxes,
) -> tuple[list[CollectionFilter], list[CollectionFilter], list[Slot]]:
    """Filters on the way in and out, and slots, one of each per entry."""
    ins: list[CollectionFilter] = []
    outs: list[CollectionFilter] = []
    slots: list[Slot] = []

    for names, axis in axes.items():
        ins.append(False if isinstance(axis, Out) else names)
        outs.append(False if isinstance(axis, In) else names)
        into = ABSENT if isinstance(axis, Out) else _place(axis.axis if isinstance(axis, In) else axis)
        out = ABSENT if isinstance(axis, In) else _place(axis.axis if isinstance(axis, Out) else axis)
        slots.append(Slot(into, out))
    return ins, outs, slots


def _place(axis: Any) -> int | Place:
    return Place.SHARED if axis is None else axis


def split_names(split_rngs: Mapping[Any, bool]) -> tuple[str, ...]:
    """Streams that are to be split by name, where that of ``params``, which serves for those not given, is not."""
    if next((split for names, split in split_rngs.items() if in_filter(names, "params")), False):
        return ()
    chosen = [{names} if isinstance(names, str) else names for names, split in split_rngs.items() if split]
    return tuple(sorted(name for names in chosen if not isinstance(names, bool | DenyList) for name in names))


def rng_slots(split_rngs: Mapping[Any, bool]) -> tuple[list[CollectionFilter], list[Slot]]:
    """Filters of streams, and slots, one of each per entry."""
    shared = Slot(Place.SHARED, ABSENT)
    return list(split_rngs), [KEYS if split else shared for split in split_rngs.values()]
