"""What every part of the module package needs to know of a module, without importing the class."""

import dataclasses
import typing
import weakref
from typing import Any, ClassVar, Final

from fx_core.scope import Scope

from fx_linen.module._state import ClassInfo, ModuleState

__all__ = ["UNSPECIFIED", "ModuleBase", "UnspecifiedParent", "raw_parent", "set_parent", "where"]


class UnspecifiedParent:
    """The default of ``parent``: the module whose method is running, if any."""

    def __repr__(self) -> str:
        return "<the running module>"

    def __copy__(self) -> "UnspecifiedParent":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "UnspecifiedParent":
        return self

    def __reduce__(self) -> str:
        return "UNSPECIFIED"


UNSPECIFIED: Final = UnspecifiedParent()


# Here and not on `Module`: checkers take the fields of subclasses only, and `Module` itself has `name` and `parent`.
@typing.dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
class ModuleBase:
    """Marks modules for the parts that the `Module` class is composed of.

    A module keeps in its ``__dict__``, besides its fields: ``_state`` (what its methods change as they run), ``scope``
    (once bound), and ``_parent`` (weakly if it is a module: children are held by their parents, and cycles would keep
    tracers alive until the garbage collector comes).
    """

    scope: Scope | None = None
    name: str | None
    _state: ModuleState
    _parent: Any = None

    _info: ClassVar[ClassInfo]
    # Whether modules from outside keep their names here; None for what the flag says.
    preserve_adopted_names: ClassVar[bool | None] = None

    def setup(self) -> None:
        """Creates submodules and variables as attributes; runs once, before the first use of a bound module."""


def raw_parent(module: ModuleBase) -> Any:
    """Returns what the module was given as parent: ``UNSPECIFIED``, ``None``, a scope or a module (``None`` once
    collected).
    """
    parent = module.__dict__.get("_parent")
    return parent() if type(parent) is weakref.ref else parent


def set_parent(module: ModuleBase, parent: Any) -> None:
    """Stores the parent, weakly if it is a module."""
    module.__dict__["_parent"] = weakref.ref(parent) if isinstance(parent, ModuleBase) else parent


def where(module: ModuleBase) -> str:
    """Returns the module in an error: its path when bound, else its class."""
    scope = module.__dict__.get("scope")
    kind = type(module).__name__
    return f"{scope.path_text} ({kind})" if scope is not None else f"{kind} (unbound)"
