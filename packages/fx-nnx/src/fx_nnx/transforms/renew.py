"""Giving objects that exist the structure that a function left behind."""

from collections.abc import Iterable, Mapping
from typing import Any

from fx_nnx.graph.build import Builder, ObjectPlan
from fx_nnx.graph.definition import VariableDef
from fx_nnx.links import announce
from fx_nnx.objects.fields import is_array
from fx_nnx.objects.pytree import attributes_of, owned_kinds
from fx_nnx.snapshots import exact, snapshot_of
from fx_nnx.variables.fields import filled
from fx_nnx.variables.writing import boxed

__all__ = ["Renewal"]


class Renewal(Builder):
    """Makes objects out of ones that exist, where there are any.

    Args:
      values: the values of what is new: of variables that do not exist, and of attributes.
      known: objects and variables that exist, by number; objects are changed to what the structure says.
    """

    def __init__(self, values: Iterable[Any], known: Mapping[int, Any]):
        super().__init__(values)
        self.known = known
        self.index.update(known)

    def variable(self, plan: VariableDef) -> Any:
        """Returns a variable."""
        found = self.known.get(plan.index)
        if found is None:
            value = boxed(plan.type, next(self.values), plan.metadata)
            found = self.index[plan.index] = filled(plan.type, value, plan.metadata, self.trace)
        elif found._nnx_meta is not plan.metadata and found._nnx_meta != plan.metadata:
            found._nnx_check_trace()
            found._nnx_set_meta(plan.metadata)
        return found

    def object(self, plan: ObjectPlan) -> Any:
        """Returns an object."""
        found = self.known.get(plan.index)
        if found is None:
            return super().object(plan)
        new = dict(plan.statics)
        for key, child in plan.children:
            new[key] = self.make(child)
        _change(found, new, plan.kinds)
        return found


def _change(found: Any, new: dict[Any, Any], kinds: dict[Any, bool]) -> None:
    """Give an object other attributes, with one announcement if that changes its structure."""
    old = attributes_of(found)
    changed = [key for key in new if key not in old or not _same(old[key], new[key], kinds[key])]
    gone = [key for key in old if key not in new]
    if not changed and not gone and found._nnx_kinds == kinds:
        return
    found._nnx_check_trace()
    for key in gone:
        del old[key]
    structural = found._nnx_kinds != kinds or not all(is_array(old.get(k)) and is_array(new[k]) for k in changed)
    old.update({key: new[key] for key in changed})
    owned = owned_kinds(found)
    owned.clear()
    owned.update(kinds)
    if structural:
        announce(found)


def _same(old: Any, new: Any, is_data: bool) -> bool:
    # What holds data is the same if it is the same object; comparing variables would compare their values.
    if old is new or is_data or type(old) is not type(new):
        return old is new
    before, after = snapshot_of(old), snapshot_of(new)
    return exact(before) == exact(after) and bool(before == after)
