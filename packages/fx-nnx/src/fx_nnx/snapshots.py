"""Static values as they were at one moment: with a hash, and out of reach of later changes.

``self.sizes = [64, 64]`` is a static attribute like any other, and so is a configuration that is a plain dataclass; but
they have no hash, and may change without notice. So structures hold a snapshot of such a value; who keeps a
structure can ask whether the snapshot is still true.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence, Set
from typing import Any

import jax
import numpy as np

__all__ = ["Snapshot", "exact", "exact_key", "has_hash", "may_change", "snapshot_of", "thawed"]


class Snapshot:
    """What was in a value that may change in place. Equal ones have the same types, content and order."""

    __slots__ = ("_hash", "_key", "_source", "_value")

    def __init__(self, value: Any):
        self._key = exact_key(value)
        self._hash = hash(self._key)
        # Lists, dicts and sets are copied whenever they are given; other objects are given while it is true of them.
        self._source = None if type(value) in _CONTAINERS else value
        self._value = _copy(value, {})

    def __eq__(self, other: object) -> bool:
        return type(other) is Snapshot and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return repr(self._value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self._value,)

    def thaw(self) -> Any:
        """Returns a new list, dict, set or tuple with the same in it, or the object of which this still is true."""
        if self._source is not None and self.is_of(self._source):
            return self._source
        return _copy(self._value, {})

    def is_of(self, value: Any) -> bool:
        """Returns whether this is what is in a value now."""
        try:
            return self._key == exact_key(value)
        except (TypeError, RecursionError):
            return False


def snapshot_of(value: Any) -> Any:
    """Returns the snapshot of a static value that may change in place, or the value itself if it may not or has no
    hash.

    >>> sizes = [64, 64]
    >>> before = snapshot_of(sizes)
    >>> sizes.append(10)
    >>> before, before == snapshot_of(sizes), snapshot_of((64, 64))
    ([64, 64], False, (64, 64))
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind not in _CONTAINERS or kind is tuple:
        try:
            hash(value)
            if not _changes_in_place(kind):
                return value
        except TypeError:
            pass
    try:
        return Snapshot(value)
    except (TypeError, RecursionError):  # holds something without a hash that cannot be looked into, or is very deep
        return value


def may_change(value: Any) -> bool:
    """Returns whether something may change in place without notice: it has no hash, or one that means
    nothing.
    """
    kind = type(value)
    return kind not in _PLAIN and (not has_hash(value) or _changes_in_place(kind))


def thawed(value: Any) -> Any:
    """Returns what an attribute is to be, of what a structure says."""
    return value.thaw() if type(value) is Snapshot else value


_PLAIN = frozenset({str, bytes, int, bool, float, complex, type(None), type(Ellipsis)})
_BY_TYPE = frozenset({str, bytes, int, bool, type(None), type(Ellipsis)})
_CONTAINERS = frozenset({list, tuple, dict, set})
_Key = Callable[[Any], Any]


@functools.cache
def _changes_in_place(kind: type) -> bool:
    """Whether objects of a type have a hash although they are records that may change: not frozen dataclasses."""
    params = getattr(kind, "__dataclass_params__", None)
    return params is not None and not params.frozen


def exact(value: Any) -> Any:
    """Returns what distinguishes a value from others that are equal, not the same: 1 from 1.0 and True, 0.0 from -0.0.

    To be compared besides the value.
    """
    kind = type(value)
    if kind in _BY_TYPE or kind is Snapshot:
        return kind
    try:
        return _key(value)
    except TypeError:
        return kind
    except RecursionError:
        return _exact_of_nested(value)


def _exact_of_nested(value: Any) -> Any:
    try:
        return _key_of_cyclic(value)
    except (TypeError, RecursionError):
        return type(value)


def exact_key(value: Any) -> Any:
    """Returns something with a hash that is equal only for values that a trace cannot distinguish.

    Raises:
      TypeError: there is something in the value that has no hash and cannot be looked into.
      RecursionError: it is nested too deeply.
    """
    try:
        return _key(value)
    except RecursionError:  # it may hold itself
        return _key_of_cyclic(value)


class _Again:
    """In a key, stands for an object that was met before."""


def _key_of_cyclic(value: Any) -> Any:
    """Give a key in which an object that is met again is a number."""
    met: dict[int, tuple[int, Any]] = {}  # with the objects, so that no other gets the id of one that has gone

    def key(value: Any) -> Any:
        kind = type(value)
        if kind in _CONTAINERS or dataclasses.is_dataclass(kind) or not has_hash(value):
            found = met.get(id(value))
            if found is not None:
                return _Again, found[0]
            met[id(value)] = len(met), value
        return _key(value, key)

    return key(value)


def _key(value: Any, of: _Key | None = None) -> Any:
    """Give the key of a value; ``of`` gives those of its parts."""
    kind, of = type(value), of or _key
    if kind in _BY_TYPE:
        return kind, value
    if kind is float or kind is complex or isinstance(value, np.generic):
        return kind, repr(value)  # 0.0 is not -0.0
    if kind is list or kind is tuple:
        return (kind, *map(of, value))
    if kind is dict:  # in order, which a loop over it would see
        return (kind, *((of(key), of(item)) for key, item in value.items()))
    if kind is slice or kind is range:  # slices have a hash from Python 3.12 on
        return kind, of(value.start), of(value.stop), of(value.step)
    if kind is set or kind is frozenset:
        return kind, frozenset(map(of, value))
    if dataclasses.is_dataclass(kind) or (isinstance(value, tuple) and has_hash(value)):
        return (kind, *((name, of(item)) for name, item in _parts(value)))
    try:
        hash(value)
    except TypeError:
        return _key_of_unhashable(value, of)
    return kind, value


def has_hash(value: Any) -> bool:
    """Returns whether a value has a hash."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _key_of_unhashable(value: Any, of: _Key) -> Any:
    kind = type(value)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return kind, value.dtype, value.shape, of(value.tolist())
        return kind, value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, jax.Array):  # immutable
        return kind, id(value)
    if isinstance(value, bytearray | memoryview):
        return kind, bytes(value)
    attributes = tuple((name, of(item)) for name, item in _parts(value))
    if isinstance(value, Mapping):
        return kind, attributes, tuple((of(key), of(item)) for key, item in value.items())
    if isinstance(value, Set):
        return kind, attributes, frozenset(map(of, value))
    if isinstance(value, Sequence) or hasattr(value, "popleft"):
        return kind, attributes, tuple(map(of, value))
    if not attributes and not hasattr(value, "__dict__"):
        raise TypeError(f"{kind.__name__} has no hash and cannot be looked into")
    return kind, attributes


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Give names and values of the attributes of an object, those in slots included."""
    if isinstance(value, tuple):
        yield from ((str(number), item) for number, item in enumerate(value))
    for name in _slots_of(type(value)):
        if hasattr(value, name):
            yield name, getattr(value, name)
    yield from getattr(value, "__dict__", {}).items()


@functools.cache
def _slots_of(kind: type) -> tuple[str, ...]:
    # Looked up anew, they take half the time in which a record looks whether a plain dataclass has changed.
    slots = [vars(cls).get("__slots__", ()) for cls in kind.__mro__]
    names = [name for part in slots for name in ((part,) if isinstance(part, str) else part)]
    return tuple([name for name in names if name not in ("__dict__", "__weakref__")])


def _copy(value: Any, made: dict[int, Any]) -> Any:
    """Give a copy, in which what was met before (``made``, by id) is its first copy."""
    kind = type(value)
    if kind not in _CONTAINERS and has_hash(value) and not _changes_in_place(kind):
        return value
    if id(value) in made:
        return made[id(value)]
    if kind is list:
        copied = made[id(value)] = []
        copied.extend(_copy(item, made) for item in value)
        return copied
    if kind is dict:
        copied = made[id(value)] = {}
        copied.update((key, _copy(item, made)) for key, item in value.items())
        return copied
    if kind is tuple:
        return tuple(_copy(item, made) for item in value)
    if kind is set:
        return set(value)
    try:
        return _copy_of_object(value, made)
    except Exception:  # an object that refuses to be copied is given as it is
        made[id(value)] = value
        return value


def _copy_of_object(value: Any, made: dict[int, Any]) -> Any:
    if isinstance(value, jax.Array):
        return value
    copied = made[id(value)] = copy.copy(value)
    for name, item in list(_parts(value)):
        new = _copy(item, made)
        if new is not item and not name.isdigit():
            object.__setattr__(copied, name, new)
    if isinstance(value, MutableMapping | MutableSequence) and not isinstance(value, bytearray):
        for key, item in list(value.items()) if isinstance(value, Mapping) else enumerate(value):
            copied[key] = _copy(item, made)
    return copied
