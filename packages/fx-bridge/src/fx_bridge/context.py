"""Which bridge module is running in this thread."""

import collections
import dataclasses
import threading
from typing import Any

__all__ = ["ModuleStackEntry", "current_context", "current_module", "current_scope", "stack"]


@dataclasses.dataclass(eq=False)
class ModuleStackEntry:
    """A call of a method of a bridge module.

    Attributes:
      module: the module; None where no module is to be seen.
      in_compact: whether the method is compact.
      in_setup: whether it is ``setup``.
      type_counter: how many submodules it has named by each name of a class.
      names: the names that it has given to submodules and variables, with what has them.
    """

    module: Any
    in_compact: bool = False
    in_setup: bool = False
    type_counter: collections.defaultdict[str, int] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(int)
    )
    names: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def may_attach(self) -> bool:
        """Whether what is made now may become a part of the module under a name."""
        return self.in_compact or self.in_setup


class _Stack(threading.local):
    def __init__(self) -> None:
        self.entries: list[ModuleStackEntry] = []


stack = _Stack()


def current_context() -> ModuleStackEntry | None:
    """Returns the call of a bridge module that is running, or None.

    >>> current_context() is None
    True
    """
    return stack.entries[-1] if stack.entries and stack.entries[-1].module is not None else None


def current_module() -> Any:
    """Returns the bridge module that is running, or None.

    >>> import fx_bridge
    >>> fx_bridge.current_module() is None  # outside of the methods of bridge modules
    True
    """
    entry = current_context()
    return None if entry is None else entry.module


def current_scope() -> Any:
    """Returns the scope of the bridge module that is running, or None."""
    module = current_module()
    return None if module is None else module.scope
