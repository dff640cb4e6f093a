"""What cursors know of containers: their entries, how to read one, how to rebuild with some changed."""

import copy
import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from fx_core.errors.kinds import ArgumentTypeError, InvalidAttributeError, ItemNotFoundError
from fx_core.errors.tree import brief
from fx_core.frozen_dict import FrozenDict


def is_namedtuple(obj: Any) -> bool:
    """Returns whether an object is a named tuple."""
    return isinstance(obj, tuple) and hasattr(obj, "_fields")


def field_names(obj: Any) -> tuple[str, ...]:
    """Returns the attributes of an object that can be changed: those of named tuples and dataclasses."""
    if is_namedtuple(obj):
        return obj._fields
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        return tuple(each.name for each in dataclasses.fields(obj))
    return ()


def is_container(obj: Any) -> bool:
    """Returns whether changes can be noted in an object."""
    return isinstance(obj, Mapping | list | tuple) or bool(field_names(obj))


def entry_names(obj: Any) -> list[tuple[Any, str]]:
    """Returns the entries of an object as (key, kind of access), none for a leaf."""
    if isinstance(obj, Mapping):
        return [(key, "item") for key in obj]
    names = field_names(obj)
    if names:
        return [(name, "attr") for name in names]
    return [(index, "item") for index in range(len(obj))] if isinstance(obj, list | tuple) else []


def normalize(obj: Any, key: Any, kind: str, path: str) -> tuple[Any, str]:
    """Returns one name for each entry, so that ``x[-1]``, ``x[2]`` and ``x.field`` mean the same child.

    Raises:
      ItemNotFoundError: no such index in a list or tuple.
    """
    if kind == "attr" or not isinstance(obj, list | tuple):
        return key, kind
    try:
        index = range(len(obj))[operator.index(key)]
    except (IndexError, TypeError):
        raise _cursor_index(key, len(obj), path) from None
    return (field_names(obj)[index], "attr") if is_namedtuple(obj) else (index, "item")


def read(obj: Any, key: Any, kind: str, path: str) -> Any:
    """Returns the entry of a container, by a normalized key.

    Raises:
      InvalidAttributeError: no such attribute.
      ItemNotFoundError: no such key.
      ArgumentTypeError: the object has no entries.
    """
    if kind == "attr":
        fields = field_names(obj)
        if key not in fields and (isinstance(obj, Mapping | list | tuple) or not hasattr(obj, key)):
            raise _cursor_attribute(key, obj, fields, path)
        return getattr(obj, key)
    if isinstance(obj, Mapping):
        if key not in obj:
            raise ItemNotFoundError(
                f"Key {key!r} is not in the dict.",
                path=path or None,
                expected="one of " + brief(list(obj)),
                got=repr(key),
                fix="Check the key, or assign to it to add it.",
            )
        return obj[key]
    if not hasattr(obj, "__getitem__"):
        raise _cursor_assign(key, obj, path)
    return obj[key]


def check_writable(obj: Any, key: Any, kind: str, path: str) -> None:
    """Checks that an entry can be changed, or added to a dict.

    Raises:
      InvalidAttributeError: no such field.
      ArgumentTypeError: the object has no entries.
    """
    if kind == "attr":
        if key not in field_names(obj):
            raise _cursor_attribute(key, obj, field_names(obj), path)
    elif not isinstance(obj, Mapping | list | tuple):
        raise _cursor_assign(key, obj, path)


def rebuild(obj: Any, changes: dict[Any, Any]) -> Any:
    """Returns a copy of a container in which some entries, by normalized keys, are changed."""
    if isinstance(obj, FrozenDict):
        return FrozenDict({**obj, **changes})
    if isinstance(obj, Mapping):
        new: Any = copy.copy(obj)  # ordered and default dicts keep their kind
        new.update(changes)
        return new
    if is_namedtuple(obj):
        return obj._replace(**changes)
    if isinstance(obj, list | tuple):
        return type(obj)([changes.get(index, value) for index, value in enumerate(obj)])
    return dataclasses.replace(obj, **changes)


def _cursor_index(index: Any, length: int, path: str = "") -> ItemNotFoundError:
    return ItemNotFoundError(
        f"Index {index!r} does not name an entry of a sequence of {length}.",
        path=path or None,
        expected=f"an integer from {-length} to {length - 1}" if length else "nothing: the sequence is empty",
        got=repr(index),
        fix="Check the index; to change several entries set each, or set the whole sequence.",
    )


def _cursor_attribute(name: str, obj: Any, fields: Sequence[str] = (), path: str = "") -> InvalidAttributeError:
    return InvalidAttributeError(
        f"{type(obj).__name__} has no attribute {name!r} that a cursor can use.",
        path=path or None,
        expected="one of " + ", ".join(fields) if fields else "a named tuple or a dataclass",
        got=repr(name),
        fix="Check the name; entries of dicts and lists are reached with [...].",
    )


def _cursor_assign(key: Any, obj: Any, path: str = "") -> ArgumentTypeError:
    return ArgumentTypeError(
        f"A cursor cannot go to {key!r} inside of {type(obj).__name__}.",
        path=path or None,
        expected="a dict, FrozenDict, list, tuple, named tuple or dataclass",
        got=f"{type(obj).__name__}: {brief(obj)}",
        fix="Set the whole object instead.",
    )
