"""What a value is to a graph, by its type."""

from typing import Any, Literal

from fx_nnx.objects.fields import is_array, is_leaf
from fx_nnx.objects.pytree import Pytree
from fx_nnx.variables.variable import Variable

__all__ = ["Kind", "kind_of", "known_kinds"]

Kind = Literal["object", "variable", "leaf", "list", "tuple", "dict", "pytree"]
"""``pytree``: another pytree that JAX knows."""

known_kinds: dict[type, Kind] = {list: "list", tuple: "tuple", dict: "dict"}


def kind_of(value: Any) -> Kind:
    """Returns what a value is; the answer only depends on its type."""
    cls = type(value)
    found = known_kinds.get(cls)
    if found is None:
        found = known_kinds[cls] = _classify(value)
    return found


def _classify(value: Any) -> Kind:
    if isinstance(value, Pytree):
        return "object"
    if isinstance(value, Variable):
        return "variable"
    if is_array(value) or is_leaf(value):
        return "leaf"
    return "pytree"
