"""The entries of one kind, by name."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from fx_core.errors.plugins import EntryNameClashError, UnknownEntryError
from fx_core.plugins.entries import Entry
from fx_core.plugins.sources import is_named, prefix_of, speaks_for

E = TypeVar("E", bound=Entry)
T = TypeVar("T")

Advice = Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class _Claims(Generic[E]):
    """What names mean.

    Attributes:
      entries: the entry of each name that means one thing.
      clashes: the error for each name that several plugins claim with the same right.
      shadowed: the error for each name that means one thing, which a plugin that is not called after it claims too.
    """

    entries: Mapping[str, E]
    clashes: Mapping[str, EntryNameClashError]
    shadowed: Mapping[str, EntryNameClashError]


class EntryTable(Mapping[str, E], Generic[E]):
    """Maps names to entries.

    A lookup by name loads the plugins that are called after the name's prefix, and the others only if these do not
    have it. Iterating loads all plugins and gives the names that mean one thing.

    A name that several plugins claim is an error when a caller asks for it, by ``[]``, ``get`` or ``in``, so that it
    never silently means either; ``clashes`` lists them. Where one of them is called after the name's prefix, that one
    counts, whichever plugins are loaded; ``shadowed`` lists such names.

    Args:
      label: the kind of entry, in words.
      entries: what there is.
      preferred: distributions or plugins that win a name clash, best first.
      advice: returns what would bring an unknown name.
      load: loads the plugins that may bring a name, or all, and replaces the entries; called before each lookup.

    Attributes:
      label: the kind of entry, in words.
    """

    label: str

    def __init__(
        self,
        label: str,
        entries: Iterable[E] = (),
        preferred: Sequence[str] = (),
        advice: Advice | None = None,
        load: Callable[[str | None], None] | None = None,
    ):
        self.label = label
        self._preferred = preferred
        self._advice: Advice = advice or (lambda _: "Install the plugin that brings it.")
        self._load: Callable[[str | None], None] = load or (lambda _: None)
        self.replace(entries)

    def replace(self, entries: Iterable[E]) -> None:
        """Forgets all entries and takes these."""
        claims: dict[str, list[E]] = {}
        for entry in entries:
            claims.setdefault(entry.name, []).append(entry)
        chosen: dict[str, E] = {}
        clashes: dict[str, EntryNameClashError] = {}
        shadowed: dict[str, EntryNameClashError] = {}
        for name in sorted(claims):
            best = _preferred(claims[name], self._preferred)
            found = best or _named_after(claims[name])
            owners = [(entry.origin.owner if entry.origin else "?", entry.target) for entry in claims[name]]
            if found is None:
                clashes[name] = EntryNameClashError(self.label, name, owners)
                continue
            chosen[name] = found
            if best is None:
                shadowed[name] = EntryNameClashError(self.label, name, owners)
        # At once: other threads look names up meanwhile.
        self._claims = _Claims(chosen, clashes, shadowed)

    @property
    def clashes(self) -> Mapping[str, EntryNameClashError]:
        """The error for each name that several plugins claim."""
        return self._all().clashes

    @property
    def shadowed(self) -> Mapping[str, EntryNameClashError]:
        """The error for each name that means one thing, which a plugin that is not called after it claims too."""
        return self._all().shadowed

    def __getitem__(self, name: str) -> E:
        found = self._find(name)
        if found is None:
            raise self._absent(name)
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    @overload
    def get(self, key: str, /) -> E | None: ...
    @overload
    def get(self, key: str, /, default: E) -> E: ...
    @overload
    def get(self, key: str, /, default: T) -> E | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """Returns the entry, or ``default`` if there is none; a name clash raises all the same."""
        found = self._find(key)
        return default if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._all().entries)

    def __len__(self) -> int:
        return len(self._all().entries)

    def __repr__(self) -> str:
        return f"<{self.label} entries: {', '.join(self) or 'none'}>"

    def _all(self) -> _Claims[E]:
        self._load(None)
        return self._claims

    def _find(self, name: str) -> E | None:
        """Return the entry, None if there is none, or raise the error of a clash."""
        self._load(name)
        claims = self._claims
        if name not in claims.entries and name not in claims.clashes and prefix_of(name):
            claims = self._all()
        clash = claims.clashes.get(name)
        if clash is not None:
            # A fresh one: an exception that is raised twice would collect tracebacks.
            raise EntryNameClashError(clash.kind, clash.name, clash.owners)
        return claims.entries.get(name)

    def _absent(self, name: str) -> UnknownEntryError:
        known = list(self)
        near = difflib.get_close_matches(name, known, n=3)
        advice = self._advice(name)
        if near:
            advice = f"Did you mean {' or '.join(map(repr, near))}? {advice}"
        return UnknownEntryError(self.label, name, known, advice)


def _preferred(claims: Sequence[E], preferred: Sequence[str]) -> E | None:
    """Return the only claim, or the one of the plugin that is preferred to the others."""
    if len(claims) == 1:
        return claims[0]
    for name in preferred:
        named = [entry for entry in claims if entry.origin and is_named(entry.origin, [name])]
        if named:
            return named[0] if len(named) == 1 else None
    return None


def _named_after(claims: Sequence[E]) -> E | None:
    """Return the claim of the only plugin that is called after the name's prefix.

    What was registered by hand counts as called so: it is there whatever is looked up.
    """
    right = [
        entry
        for entry in claims
        if entry.origin is None or entry.origin.distribution is None or speaks_for(entry.origin, entry.name)
    ]
    return right[0] if len(right) == 1 and prefix_of(right[0].name) else None
