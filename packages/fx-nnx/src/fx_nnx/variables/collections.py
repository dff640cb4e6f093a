"""What third parties' collections promise about the variables of their types."""

from typing import Any

from fx_core.collections import default_slots, variable_types
from fx_core.plugins import CollectionEntry

from fx_nnx.filters import StructuralFilter
from fx_nnx.variables.kinds import Param
from fx_nnx.variables.variable import Variable

__all__ = ["Differentiable", "OfCollection", "slots_of_collections"]


class OfCollection(StructuralFilter):
    """Matches variables of the type that a third party registers for a collection."""

    def __init__(self, name: str):
        self._arguments = (name,)

    def __call__(self, path: tuple[Any, ...], x: Any) -> bool:
        """Returns whether the value at the path matches."""
        entry = _entry_of(_kind_of(x))
        return entry is not None and entry.name == self._arguments[0]


class Differentiable(StructuralFilter):
    """Matches parameters, and variables of third parties' collections as these are registered.

    >>> from fx_nnx.variables.kinds import BatchStat
    >>> Differentiable()((), Param(1.0)), Differentiable()((), BatchStat(1.0))
    (True, False)
    """

    def __init__(self):
        self._arguments = ()

    def __call__(self, path: tuple[Any, ...], x: Any) -> bool:
        """Returns whether the value at the path matches."""
        kind = _kind_of(x)
        entry = None if _is_of_fx(kind) else _entry_of(kind)
        return issubclass(kind, Param) if entry is None else entry.differentiable


def slots_of_collections(transform: Any) -> list[tuple[OfCollection, Any]]:
    """Returns pairs of a filter and the place of a third party's collection in ``"vmap"`` or ``"scan"``."""
    return [(OfCollection(name), slot) for name, slot in default_slots(transform, ()).items()]


def _kind_of(x: Any) -> type:
    kind = getattr(x, "type", None)
    return kind if isinstance(kind, type) else type(x)


def _is_of_fx(kind: type) -> bool:
    """Whether no plugin has anything to do with a type: plugins need not be loaded to know what it is."""
    return all(cls.__module__.startswith("fx_nnx.") for cls in kind.__mro__ if issubclass(cls, Variable))


def _entry_of(kind: type) -> CollectionEntry | None:
    """The entry for a type or for the nearest one that it derives from."""
    types = variable_types()
    return next((types[cls] for cls in kind.__mro__ if cls in types), None)
