"""Static lists, dicts and sets as they were at one moment: with a hash, and out of reach of later changes.

``self.sizes = [64, 64]`` is a static attribute like any other, but a list has no hash and may change without anybody
being told. So structures hold a snapshot of it; who keeps a structure can ask whether the snapshot is still true.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["Snapshot", "snapshot_of", "thawed"]


class Snapshot:
    """What was in a list, dict or set, or in a tuple that holds some. Equal ones have the same types and order."""

    __slots__ = ("_hash", "_key", "_value")

    def __init__(self, value: Any):
        self._key = _key(value)
        self._hash = hash(self._key)
        self._value = _copy(value)

    def __eq__(self, other: object) -> bool:
        return type(other) is Snapshot and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return repr(self._value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self._value,)

    def thaw(self) -> Any:
        """Give a new list, dict, set or tuple with the same in it."""
        return _copy(self._value)

    def is_of(self, value: Any) -> bool:
        """Whether this is what is in a value now."""
        try:
            return self._key == _key(value)
        except TypeError:
            return False


def snapshot_of(value: Any) -> Any:
    """Give the snapshot of a static value that may change in place, or the value itself if it is none or has no hash.

    >>> sizes = [64, 64]
    >>> before = snapshot_of(sizes)
    >>> sizes.append(10)
    >>> before, before == snapshot_of(sizes), snapshot_of((64, 64))
    ([64, 64], False, (64, 64))
    """
    kind = type(value)
    if kind not in _COPIES:
        return value
    try:
        if kind is tuple:
            hash(value)
            return value
    except TypeError:
        pass
    try:
        return Snapshot(value)
    except (TypeError, RecursionError):  # holds something else without a hash, or itself
        return value


def thawed(value: Any) -> Any:
    """Give what an attribute is to be, of what a structure says."""
    return value.thaw() if type(value) is Snapshot else value


def _copy(value: Any) -> Any:
    copy = _COPIES.get(type(value))
    return value if copy is None else copy(value)


_COPIES: dict[type, Callable[[Any], Any]] = {
    list: lambda value: [_copy(item) for item in value],
    tuple: lambda value: tuple(_copy(item) for item in value),
    dict: lambda value: {key: _copy(item) for key, item in value.items()},
    set: lambda value: set(value),
}


def _key(value: Any) -> Any:
    """Give something with a hash that is equal for what a trace cannot tell apart."""
    kind = type(value)
    if kind is list or kind is tuple:
        return (kind, *map(_key, value))
    if kind is dict:  # in order, which a loop over it would see
        return (kind, *((_key(key), _key(item)) for key, item in value.items()))
    if kind is set:
        return kind, frozenset(map(_key, value))
    if kind is float or kind is complex:
        return kind, repr(value)  # 0.0 is not -0.0
    hash(value)
    return kind, value
