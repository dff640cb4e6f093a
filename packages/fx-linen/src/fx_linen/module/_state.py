"""What changes in a module while its methods run, and what is known of its class."""

from typing import Any

from fx_core.scope import Scope

__all__ = ["ClassInfo", "ModuleState", "NameScope"]


class ClassInfo:
    """Facts about a module class, collected once when it is created.

    Attributes:
      fields: names of the fields that the constructor takes, without ``parent`` and ``name``.
      frozen: names that ``setup`` may not assign: ``fields``, ``parent`` and ``name``.
      compared: names of the fields that decide equality.
      hashed: names of the fields that make up the hash.
      shown: names of the fields in the representation.
      has_setup: whether there is a ``setup`` to run.
    """

    __slots__ = ("compared", "fields", "frozen", "has_setup", "hashed", "shown")

    def __init__(
        self,
        fields: tuple[str, ...],
        compared: tuple[str, ...],
        hashed: tuple[str, ...],
        shown: tuple[str, ...],
        has_setup: bool,
    ):
        self.fields = fields
        self.frozen = frozenset((*fields, "parent", "name"))
        self.compared = compared
        self.hashed = hashed
        self.shown = shown
        self.has_setup = has_setup


class NameScope:
    """Where a ``compact_name_scope`` method puts its submodules."""

    __slots__ = ("counters", "name", "scope", "used")

    def __init__(self, name: str, scope: Scope):
        self.name = name
        self.scope = scope
        self.counters: dict[str, int] = {}
        self.used = False


class ModuleState:
    """The part of a module that changes while its methods run.

    Attributes:
      initialized: the module is bound and its fields are, too: from now on it is frozen outside ``setup``.
      before_setup: names of the attributes that were there before ``setup`` ran; None until it runs.
      setup_done: ``setup`` ran, or there is none.
      in_setup: ``setup`` is running.
      in_compact: a compact method is running.
      used: the compact method that ran last, if any: the next one starts with all names free again.
      reuse: the module was rebound by a transform: what ``setup`` makes may take scopes that exist already.
      counters: per class name, how many submodules were named automatically.
      children: name of each submodule, parameter and variable → the module, or the name of its collection.
      adopted: shared by all modules below one top: modules from outside and the clones that stand for them. Weakly:
        the clones belong to their parents, and cycles would keep tracers alive.
      name_scopes: per name, the scope of a ``compact_name_scope`` method.
      name_scope: the one that is running.
    """

    __slots__ = (
        "adopted",
        "before_setup",
        "children",
        "counters",
        "in_compact",
        "in_setup",
        "initialized",
        "name_scope",
        "name_scopes",
        "reuse",
        "setup_done",
        "used",
    )

    def __init__(self) -> None:
        self.initialized = False
        self.before_setup: frozenset[str] | None = None
        self.setup_done = False
        self.in_setup = False
        self.in_compact = False
        self.used: Any = None
        self.reuse = False
        self.counters: dict[str, int] = {}
        self.children: dict[str, Any] = {}
        # The modules from outside are kept next to their clones: a key is the id of a module that must stay alive.
        self.adopted: dict[int, tuple[Any, Any]] | None = None
        self.name_scopes: dict[str, NameScope] | None = None
        self.name_scope: NameScope | None = None
