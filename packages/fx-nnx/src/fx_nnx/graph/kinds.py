"""What a value is to a graph, by its type."""

from typing import Any, Literal

from fx_nnx.objects.fields import is_array, is_leaf
from fx_nnx.objects.pytree import Pytree
from fx_nnx.variables.variable import Variable

__all__ = ["Kind", "is_node", "kind_of", "known_kinds"]

Kind = Literal["object", "variable", "leaf", "list", "tuple", "dict", "pytree"]
"""``pytree``: another pytree that JAX knows."""

known_kinds: dict[type, Kind] = {list: "list", tuple: "tuple", dict: "dict"}


def kind_of(value: Any) -> Kind:
    """Returns what a value is; the answer only depends on its type."""
    cls = type(value)
    found = known_kinds.get(cls)
    if found is None:
        if issubclass(cls, Pytree):
            found = "object"
        elif issubclass(cls, Variable):
            found = "variable"
        else:
            found = "leaf" if is_array(value) or is_leaf(value) else "pytree"
        known_kinds[cls] = found
    return found


_nodes: dict[type, bool] = {}


def is_node(x: Any) -> bool:
    """Returns whether a value is an object or a variable, which have an identity."""
    cls = type(x)
    found = _nodes.get(cls)
    if found is None:
        found = _nodes[cls] = issubclass(cls, Pytree | Variable)
    return found
