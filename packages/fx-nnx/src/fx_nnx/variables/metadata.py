"""Metadata of variables: an immutable mapping with a hash, shared by the variables that have the same."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fx_nnx.errors import mode_value, wrong_metadata
from fx_nnx.snapshots import exact, exact_key, may_change

__all__ = [
    "HOOKS",
    "REQUIRED",
    "Metadata",
    "changes_of",
    "check_options",
    "first_metadata",
    "hooks_of",
    "make_metadata",
]

HOOKS = ("on_get_value", "on_set_value", "on_create_value", "on_add_axis", "on_remove_axis")
"""Names of the metadata that are functions to call, alone or in a tuple or list."""

REQUIRED = {"hijax": False, "ref": False, "eager_sharding": True}
"""What every variable has, with its default."""


class Metadata(Mapping[str, Any]):
    """What a variable knows besides its value.

    It takes part in graph definitions and pytree structures, which JAX hashes and compares at every call: so the hash
    is kept, and one object stands for all variables with equal metadata. Where there are lists, dictionaries, arrays
    and others that may change in place, hash and equality are those of what is in them now.

    Args:
      items: the metadata, required ones included.

    Attributes:
      changing: the entries that may change in place.
      hijax: the entry of this name.
      ref: the entry of this name.
    """

    __slots__ = ("_hash", "_items", "changing", "has_hooks", "hijax", "on_get", "on_set", "ref")

    def __init__(self, items: Mapping[str, Any]):
        self._items = dict(items)
        self._hash: int | None = None
        self.on_get = hooks_of(self._items.get("on_get_value"))
        self.on_set = hooks_of(self._items.get("on_set_value"))
        self.hijax, self.ref = self._items.get("hijax", False), self._items.get("ref", False)
        self.has_hooks = any(name in self._items for name in HOOKS)
        self.changing = tuple(value for value in self._items.values() if may_change(value))

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Metadata) and _reads_the_same(self, other)

    def __hash__(self) -> int:
        if self.changing:
            return hash(frozenset((name, exact_key(value)) for name, value in self._items.items()))
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"Metadata({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return make_metadata, (self._items,)

    def visible(self) -> dict[str, Any]:
        """Returns what a user has put in: everything but the required ones."""
        return {name: value for name, value in self._items.items() if name not in REQUIRED}

    def updated(self, **changes: Any) -> "Metadata":
        """Returns metadata with some entries added or replaced."""
        return make_metadata({**self._items, **changes})

    def without(self, name: str) -> "Metadata":
        """Returns metadata without an entry."""
        return make_metadata({key: value for key, value in self._items.items() if key != name})


_interned: dict[Metadata, Metadata] = {}
_INTERN_LIMIT = 4096


def make_metadata(items: Mapping[str, Any]) -> Metadata:
    """Returns the metadata with these entries: an earlier object if there is an equal one.

    >>> make_metadata({"tag": "a"}) is make_metadata({"tag": "a"})
    True
    """
    made = Metadata(items)
    if made.changing:  # whoever gave a list must not get that of another variable
        return made
    found = _interned.get(made)
    if found is not None:
        return found
    if len(_interned) < _INTERN_LIMIT:
        _interned.setdefault(made, made)
    return made


def first_metadata(early: Mapping[str, Any], named: Mapping[str, Any], options: Mapping[str, bool]) -> Metadata:
    """Returns the metadata of a new variable: what its class gives, what its maker gives, and the required options."""
    return make_metadata({**early, **REQUIRED, **named, **options}) if early or named else _options_alone(**options)


@functools.cache
def _options_alone(hijax: bool, ref: bool, eager_sharding: bool) -> Metadata:
    # Most variables have nothing else. Finding that out anew takes as long as the rest of making one.
    return make_metadata({"hijax": hijax, "ref": ref, "eager_sharding": eager_sharding})


def _reads_the_same(a: Metadata, b: Metadata) -> bool:
    # 1, 1.0 and True are equal but not the same to whoever reads them, alone or in a tuple; nor are 0.0 and -0.0.
    items, others = a._items, b._items
    if items.keys() != others.keys():
        return False
    return all(v is others[k] or _read_the_same(v, others[k]) for k, v in items.items())


def _read_the_same(value: Any, other: Any) -> bool:
    if may_change(value) or may_change(other):
        return exact_key(value) == exact_key(other)
    return exact(value) == exact(other) and bool(value == other)


def changes_of(
    kind: str, meta: Metadata, args: tuple[Any, ...], entries: dict[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Returns what ``set_metadata(*args, **entries)`` keeps, and what it puts in.

    Raises:
      NnxError: it was called in another way than it can be, or ``hijax`` or ``ref`` would change.
      ArgumentTypeError: an option is neither True nor False.
    """
    base: Mapping[str, Any] = meta
    if len(args) == 2 and isinstance(args[0], str) and not entries:
        entries = {args[0]: args[1]}
    elif len(args) == 1 and isinstance(args[0], Mapping) and not entries:
        base, entries = {name: meta[name] for name in REQUIRED}, dict(args[0])
    elif args or not entries:
        what = f"{len(args)} positional and {len(entries)} keyword argument(s) for set_metadata"
        raise wrong_metadata(kind, f"got {what}", fix="call it with (name=value, ...), (name, value) or ({...})")
    check_options(entries)
    for name in ("hijax", "ref"):
        if entries.get(name, meta[name]) is not meta[name]:
            fix = f"nnx.with_vars(model, {name}=...), or a new variable"
            raise wrong_metadata(kind, f"cannot change {name!r} in place", fix=fix)
    return base, entries


def check_options(entries: Mapping[str, Any]) -> None:
    """Makes sure that the options among some metadata are True or False.

    Raises:
      ArgumentTypeError: they are not.
    """
    for name in REQUIRED:
        if not isinstance(entries.get(name, False), bool):
            raise mode_value(f"Variable({name}=...)", entries[name])


def hooks_of(hook: Any) -> tuple[Callable[..., Any], ...]:
    """Returns the hooks as a tuple, whether there is none, one or several."""
    if hook is None:
        return ()
    return tuple(hook) if isinstance(hook, tuple | list) else (hook,)
