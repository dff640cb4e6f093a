"""Which variable type stands for which collection.

Types come from three places: this process (`register_variable_name`), and the collection entries of plugins, ours
included, which are looked up only when a name or type is asked for that the process does not know.
"""

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fx_core.lazy_imports import import_later

from fx_nnx.errors import NnxError
from fx_nnx.variables.variable import Variable

__all__ = ["register_variable_name", "variable_name_from_type", "variable_type_from_name"]

_types: dict[str, type[Any]] = {}
_lock = threading.RLock()


def variable_type_from_name(name: str, *, base: type[Any] = Variable, allow_register: bool = False) -> type[Any]:
    """Returns the variable type of a collection.

    Args:
      name: of the collection, such as ``"params"``.
      base: what a new type derives from.
      allow_register: whether to make and register a type if there is none.

    Raises:
      NnxError: there is none, and none may be made.

    >>> variable_type_from_name("params").__name__
    'Param'
    """
    with _lock:
        found = _lookup(name)
        if found is None:
            if not allow_register:
                raise _unknown_variable_name(f"The variable name {name!r}", _known())
            found = _types[name] = type(name, (base,), {"__slots__": (), "__module__": base.__module__})
        return found


def variable_name_from_type(typ: type[Any], *, allow_register: bool = False) -> str:
    """Returns the collection that a variable type stands for.

    Args:
      typ: a type of variable.
      allow_register: whether to register an unknown type under its own name.

    Raises:
      NnxError: the type is not registered and may not be.
      NnxError: its own name belongs to another type.

    >>> import fx_nnx as nnx
    >>> variable_name_from_type(nnx.BatchStat)
    'batch_stats'
    """
    with _lock:
        name = _name_of(typ)
        if name is None:
            if not allow_register:
                raise _unknown_variable_name(f"The variable type {typ.__qualname__}", _known())
            name = typ.__name__
            register_variable_name(name, typ)
        return name


def register_variable_name(name: str, typ: Any = None, *, overwrite: bool = False) -> Any:
    """Lets a variable type stand for a collection; without ``typ``, a decorator.

    Args:
      name: of the collection.
      typ: a type of variable.
      overwrite: whether the name may be taken from another type.

    Raises:
      NnxError: another type has the name.

    >>> @register_variable_name("fast_weights")
    ... class FastWeight(Variable): ...
    >>> variable_name_from_type(FastWeight)
    'fast_weights'
    """
    if typ is None:
        decorate: Callable[[type[Any]], type[Any]] = lambda t: register_variable_name(name, t, overwrite=overwrite)  # noqa: E731
        return decorate
    with _lock:
        owner = _lookup(name)
        if owner is not None and owner is not typ and not overwrite:
            raise NnxError(
                f"The variable name {name!r} is taken.",
                collection=name,
                got=f"a second type; {owner.__module__}.{owner.__qualname__} has the name",
                fix="choose another name, or register it with overwrite=True",
            )
        _types[name] = typ
    return typ


def _lookup(name: str) -> type[Any] | None:
    if name in _types:
        return _types[name]
    collections = _entries()
    return collections[name].load() if name in collections else None


def _name_of(typ: type[Any]) -> str | None:
    for name, known in _types.items():
        if known is typ:
            return name
    # By the text of the target first: looking at a type must not import every plugin.
    qualified = f"{typ.__module__}:{typ.__qualname__}"
    face = f"{typ.__module__.partition('.')[0]}:{typ.__qualname__}"
    entries = _entries()
    for name in entries:
        if name not in _types and entries[name].target in (qualified, face) and entries[name].load() is typ:
            return name
    top = typ.__module__.partition(".")[0]
    for name in entries:
        if name not in _types and entries[name].target.startswith(top) and entries[name].load() is typ:
            return name
    # A package may show under its name what another one of its packages holds.
    for name in entries:
        module = entries[name].target.partition(":")[0]
        if name not in _types and module in sys.modules and entries[name].load() is typ:
            return name
    return None


def _entries() -> Mapping[str, Any]:
    return import_later("fx_core.plugins.registry").registry().collections  # pluggy and this take a tenth of the import


def _known() -> list[str]:
    return [*_types, *_entries()]


def _unknown_variable_name(what: str, known: Iterable[str]) -> NnxError:
    return NnxError(
        f"{what} is not registered.",
        expected=f"one of {', '.join(sorted(known))}",
        got=what,
        fix="register_variable_name(name, type), allow_register=True, or a plugin with a collection entry",
    )
