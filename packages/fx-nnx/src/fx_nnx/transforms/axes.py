"""Axes of arguments and results as groups: what vmap, pmap and scan have in common."""

from typing import Any

import jax
from fx_core.frozen_dict import FrozenDict
from fx_core.meta import PARTITION_NAME
from fx_transforms import Place, Slot

from fx_nnx.errors import PrefixError
from fx_nnx.filters import OfType, StructuralFilter, to_predicate
from fx_nnx.transforms.carrier import ObjectCarrier
from fx_nnx.transforms.layout import is_variable
from fx_nnx.transforms.policies import GraphMode, Grouper, Grouping, GroupPolicy, Returns
from fx_nnx.transforms.prefixes import Carry, PerVariable, StateAxes, completed, entries_of, is_entry, spread_prefix
from fx_nnx.variables.variable import Variable

__all__ = ["NO_METADATA", "AxisGroups"]

NO_METADATA: Any = FrozenDict({})


class AxisGroups:
    """Groups of values by axis.

    Args:
      transform: name for messages.
      in_axes: entry of each argument: an axis, None, `Carry`, `StateAxes`, or a tree of them.
      out_axes: the same for the result.
      mode: how objects are carried.
      carries: whether `Carry` may be an entry.
    """

    def __init__(self, transform: str, in_axes: Any, out_axes: Any, mode: GraphMode, *, carries: bool = False):
        self.transform, self.mode = transform, mode
        in_axes, out_axes = (completed(axes, "scan" if carries else "vmap") for axes in (in_axes, out_axes))
        self.in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
        self.out_axes = out_axes
        for name, prefix in (("in_axes", in_axes), ("out_axes", out_axes)):
            self._check(name, prefix, carries)
        if not isinstance(self.in_axes, int | type | tuple | StateAxes | None):
            what = "one entry for all arguments, or a tuple with an entry for each"
            raise PrefixError.misplaced(f"in_axes of {transform}", in_axes, what)
        found = dict.fromkeys((*entries_of(in_axes), *entries_of(out_axes)))
        found = dict.fromkeys((Carry, None, *found) if carries else (*found, None))
        self.keys = list(found)
        self.index = {key: number for number, key in enumerate(self.keys)}

    def _check(self, name: str, prefix: Any, carries: bool) -> None:
        what = "an axis, None or a StateAxes" + (" or Carry" if carries else "")
        for entry in entries_of(prefix):
            if not (entry is None or type(entry) is int or (carries and entry is Carry)):
                raise PrefixError.misplaced(f"{name} of {self.transform}", entry, what)

    def grouper(self, name: str, prefix: Any, *, of_args: bool) -> Grouper:
        """Returns groups of arguments or results, by a prefix."""

        def grouper(tree: Any) -> Any:
            entries = spread_prefix(f"{name} of {self.transform}", prefix, tree[0] if of_args else tree)
            # What the function is bound to follows its arguments: shared, or handed on from step to step.
            bound = Carry if Carry in self.index else None

            def group_of(leaf: int, path: tuple[Any, ...], value: Any) -> int:
                entry = entries[leaf] if leaf < len(entries) else bound
                if isinstance(entry, PerVariable):
                    entry = entry.map_prefix(path, value)
                # For loops over trees, state that all steps share is handed on.
                if entry is None and bound is Carry and not self.mode.updates and (path or is_variable(value)):
                    entry = Carry
                return self.index[entry]

            return group_of

        return grouper

    def carrier(self, metadata: Any = None, **options: Any) -> ObjectCarrier:
        """Creates the carrier."""
        returns = {Carry: Returns.ALL, None: Returns.NONE} if Carry in self.index else {}
        return ObjectCarrier(
            self.mode,
            groups=[GroupPolicy(key, returns.get(key, Returns.CHANGED)) for key in self.keys],
            grouping=Grouping(
                self.grouper("in_axes", self.in_axes, of_args=True),
                self.grouper("out_axes", self.out_axes, of_args=False),
                check=True,
                steady=self._steady(),
            ),
            axis_metadata=metadata if metadata and PARTITION_NAME in metadata else None,
            keeps_places=self.mode.updates or self._carries_some(),
            transform=self.transform,
            **options,
        )

    def _carries_some(self) -> bool:
        """Whether `StateAxes` and the like hand on some variables of an argument."""
        entries = jax.tree.leaves(self.in_axes, is_leaf=is_entry)
        return any(entry is not Carry and Carry in entries_of(entry) for entry in entries)

    def _steady(self) -> Any:
        """What decides about the group of an argument beside its structure; None if a filter may look at values."""
        entries = self.in_axes if type(self.in_axes) is tuple else (self.in_axes,)
        others = [entry for entry in entries if not (entry is None or entry is Carry or type(entry) is int)]
        if not others:
            return ("axes", self.mode, self.in_axes, *self.keys)
        return self if all(type(entry) is StateAxes and _is_structural(entry) for entry in others) else None

    def slots(self) -> list[Slot]:
        """Returns the slots of the groups."""
        return [_slot(key, Carry in self.index) for key in self.keys]


def _is_structural(axes: StateAxes) -> bool:
    """Whether filters look at the structure of a model alone, and not at the type of an array either."""
    predicates = [to_predicate(filter) for filter in axes.filters]
    while predicates:
        predicate = predicates.pop()
        if not isinstance(predicate, StructuralFilter):
            return False
        if isinstance(predicate, OfType) and not issubclass(predicate.type, Variable):
            return False
        predicates += predicate.parts
    return True


def _slot(key: Any, loop: bool) -> Slot:
    if key is Carry:
        return Slot(Place.CARRY, Place.CARRY)
    if key is None:
        return Slot(Place.SHARED, Place.ABSENT if loop else Place.SHARED)
    return Slot(key, key)
