"""The entries of one kind, by name."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from fx_core.errors.plugins import EntryNameClashError, UnknownEntryError
from fx_core.plugins.entries import Entry
from fx_core.plugins.sources import is_named

E = TypeVar("E", bound=Entry)
T = TypeVar("T")

Advice = Callable[[str], str]


class EntryTable(Mapping[str, E], Generic[E]):
    """Maps names to entries.

    Iterating gives the names that mean one thing. A name that several plugins claim is an error when a caller asks
    for it, by ``[]``, ``get`` or ``in``, so that it never silently means either; ``clashes`` lists them.

    Attributes:
      label: the kind of entry, in words.
      clashes: the error for each name that several plugins claim.
    """

    label: str
    clashes: Mapping[str, EntryNameClashError]

    def __init__(self, label: str, entries: Iterable[E], preferred: Sequence[str] = (), advice: Advice | None = None):
        self.label = label
        self._advice: Advice = advice or (lambda _: "Install the plugin that brings it.")
        claims: dict[str, list[E]] = {}
        for entry in entries:
            claims.setdefault(entry.name, []).append(entry)
        self._entries: dict[str, E] = {}
        clashes: dict[str, EntryNameClashError] = {}
        for name in sorted(claims):
            chosen = _choose(claims[name], preferred)
            if chosen is not None:
                self._entries[name] = chosen
            else:
                owners = [(entry.origin.owner if entry.origin else "?", entry.target) for entry in claims[name]]
                clashes[name] = EntryNameClashError(label, name, owners)
        self.clashes = clashes

    def __getitem__(self, name: str) -> E:
        try:
            return self._entries[name]
        except KeyError:
            raise self._absent(name) from None

    def __contains__(self, name: object) -> bool:
        if name in self._entries:
            return True
        if name in self.clashes:
            raise self._absent(str(name))
        return False

    @overload
    def get(self, key: str, /) -> E | None: ...
    @overload
    def get(self, key: str, /, default: E) -> E: ...
    @overload
    def get(self, key: str, /, default: T) -> E | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """Returns the entry, or ``default`` if there is none; a name clash raises all the same."""
        entry = self._entries.get(key)
        if entry is not None:
            return entry
        if key in self.clashes:
            raise self._absent(key)
        return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<{self.label} entries: {', '.join(self._entries) or 'none'}>"

    def _absent(self, name: str) -> EntryNameClashError | UnknownEntryError:
        clash = self.clashes.get(name)
        if clash is not None:
            # A fresh one: an exception that is raised twice would collect tracebacks.
            return EntryNameClashError(clash.kind, clash.name, clash.owners)
        near = difflib.get_close_matches(name, self._entries, n=3)
        advice = self._advice(name)
        if near:
            advice = f"Did you mean {' or '.join(map(repr, near))}? {advice}"
        return UnknownEntryError(self.label, name, list(self._entries), advice)


def _choose(claims: Sequence[E], preferred: Sequence[str]) -> E | None:
    """Give the one entry that counts, if that is settled."""
    if len(claims) == 1:
        return claims[0]
    for name in preferred:
        named = [entry for entry in claims if entry.origin and is_named(entry.origin, [name])]
        if named:
            return named[0] if len(named) == 1 else None
    return None
