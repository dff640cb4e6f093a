"""Where a scope is, whether it may be used there, and which names are taken."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeAlias

import jax

from fx_core.compat.jax import belongs_to, current_trace, traces_within
from fx_core.errors.kinds import ArgumentTypeError
from fx_core.errors.scope import InvalidScopeError, JaxTransformError, NameInUseError
from fx_core.frozen_dict import FrozenDict
from fx_core.scope._filters import CollectionFilter
from fx_core.scope._outside import NotThereError, is_outside, made_in
from fx_core.scope._rng import LazyRng, PRNGKey, RngCounters

MutableCollection: TypeAlias = dict[str, Any]
MutableVariableDict: TypeAlias = dict[str, MutableCollection]
VariableDict: TypeAlias = Mapping[str, Mapping[str, Any]]
FrozenVariableDict: TypeAlias = FrozenDict[str, Mapping[str, Any]]


class BareScope:
    """The part of a `Scope` that knows its path, its trace, its life and its names, but nothing of variables."""

    __slots__ = (
        "__weakref__",
        "_invalid", "_keys", "_streams", "_suffix", "_trace", "_variables",
        "counters", "debug_path", "flags", "mutable", "name", "parent", "path", "reservations",
    )  # fmt: skip

    reservations: dict[str, set[str | None]]

    def __init__(
        self,
        variables: MutableVariableDict | VariableDict,
        rngs: Mapping[str, PRNGKey | LazyRng] | None = None,
        name: str | None = None,
        mutable: CollectionFilter = False,
        parent: Self | None = None,
        path: tuple[str, ...] = (),
        debug_path: tuple[str, ...] = (),
        flags: Mapping[str, Any] | None = None,
    ):
        self.name, self.parent, self.mutable = name, parent, mutable
        self.path, self.debug_path = tuple(path), tuple(debug_path) or tuple(path)
        self.flags = flags if isinstance(flags, FrozenDict) else FrozenDict(flags or {})
        self.reservations, self.counters = {}, RngCounters()
        self._streams = {key: LazyRng.create(rng) for key, rng in (rngs or {}).items()}
        self._suffix: tuple[str, ...] = ()
        self._variables = variables if type(variables) is dict else dict(variables)
        self._keys = ()
        self._trace, self._invalid = current_trace(), False

    def _derive(self, name: str | None, parent: Self | None) -> Self:
        """A scope at the same place with nothing reserved, or, with ``parent`` self, an inner one."""
        new = object.__new__(type(self))
        new.name, new.parent, new.mutable, new.flags = name, parent, self.mutable, self.flags
        new.path, new.debug_path = self.path, self.debug_path
        new.reservations, new.counters = {}, self.counters
        new._streams, new._suffix = self._streams, self._suffix
        new._variables, new._keys = self._variables, self._keys
        new._trace, new._invalid = self._trace, False
        return new

    def draw_as(self, other: Self) -> None:
        """Draws the keys of another scope from now on, which goes on where this one stops.

        Args:
          other: the scope that this one takes the place of.

        >>> import fx_core
        >>> import jax
        >>> scopes = [fx_core.Scope({}, {"params": jax.random.key(0)}) for _ in range(2)]
        >>> before = scopes[0].push("block").push("dense")
        >>> after = scopes[1].push("dense")
        >>> after.draw_as(scopes[1].push("block").push("dense"))
        >>> bool(after.make_rng() == before.make_rng())
        True
        """
        self._streams, self._suffix, self.counters = other._streams, other._suffix, other.counters

    # Identity

    @property
    def root(self) -> Self:
        """The outermost scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def path_text(self) -> str:
        """The path as text, such as ``"/encoder/dense"``."""
        return "/" + "/".join(self.debug_path)

    @property
    def rngs(self) -> dict[str, LazyRng]:
        """The streams as seen from here."""
        if not self._suffix:
            return dict(self._streams)
        return {name: LazyRng.create(rng, *self._suffix) for name, rng in self._streams.items()}

    @property
    def rng_counters(self) -> dict[str, int]:
        """How many keys this scope itself has taken from each stream."""
        return {name: self.counters.drawn.get(name, 0) for name in self._streams}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BareScope):
            return NotImplemented
        return self is other or (self._variables is other._variables and self.path == other.path)

    def __hash__(self) -> int:
        return hash((id(self._variables), self.path))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path_text!r}, mutable={self.mutable!r}, rngs={sorted(self._streams)})"

    # Validity

    @property
    def invalid(self) -> bool:
        """Whether the life of this scope, or of one around it, has ended."""
        scope: BareScope | None = self
        while scope is not None:
            if scope._invalid:
                return True
            scope = scope.parent
        return False

    def invalidate(self) -> None:
        """Ends the life of this scope: it can no longer be changed, only read."""
        self._invalid = True

    @contextmanager
    def temporary(self) -> Iterator[Self]:
        """Yields this scope for the length of a ``with`` block and invalidate it afterwards."""
        try:
            yield self
        finally:
            self.invalidate()

    def _check_alive(self) -> None:
        """Raise if the life of the scope has ended."""
        if self.invalid:
            raise InvalidScopeError(self.name, self.path_text)

    def _check(self, action: str) -> None:
        """Raise unless the scope is alive and belongs to the current trace, or one around it."""
        self._check_value(action, None)

    def _check_value(self, action: str, value: Any) -> None:
        """The same, and raise if a value is known only in a trace inside of that of the scope."""
        self._check_alive()
        if self._trace == current_trace() or is_outside(self._trace):
            return
        inner = traces_within(self._trace)
        if inner is None:
            raise JaxTransformError(self.path_text, action)
        if any(belongs_to(leaf, inner) for leaf in jax.tree.leaves(value)):
            raise JaxTransformError(self.path_text, f"{action} from values")

    def _made(self, what: str, make: Callable[[], Any]) -> Any:
        """What ``make()`` gives, in the trace of the scope.

        Raises:
          JaxTransformError: that trace is not around, or ``make`` uses values of one inside of it.
        """
        self._check_alive()
        drawn = dict(self.counters.drawn)

        def make_anew() -> Any:
            self.counters.drawn.clear()  # else a second call would draw other keys
            self.counters.drawn.update(drawn)
            return make()

        try:
            return made_in(self._trace, make_anew)
        except NotThereError as error:
            action = f"create the {what} from values" if error.values else f"create the {what}"
            raise JaxTransformError(self.path_text, action) from error

    # Names

    def reserve(self, name: str, col: str | None = None) -> None:
        """Takes a name, for a variable of a collection or for an inner scope (``col=None``).

        Raises:
          NameInUseError: it is taken; only variables of different collections may share a name.
        """
        if not isinstance(name, str):
            raise ArgumentTypeError(
                "The name of a scope or variable must be a string.",
                path=self.path_text,
                expected="a str",
                got=f"{type(name).__name__}: {name!r}",
                fix="Write the name as a string, such as 'layer_0'.",
            )
        if self.name_reserved(name, col):
            kind = "scope" if col is None else "parameter" if col == "params" else "variable"
            raise NameInUseError(kind, name, self.path_text, col)
        self.reservations.setdefault(name, set()).add(col)

    def name_reserved(self, name: str, col: str | None = None) -> bool:
        """Returns whether `reserve` would refuse the name."""
        taken = self.reservations.get(name)
        return taken is not None and (col is None or None in taken or col in taken)

    def default_name(self, prefix: str) -> str:
        """Returns the first free name of ``prefix0``, ``prefix1``, …"""
        i = 0
        while f"{prefix}{i}" in self.reservations:
            i += 1
        return f"{prefix}{i}"
