"""Modules that a function sees without getting them as arguments."""

import functools
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

from fx_nnx.graph.record import Record, record_of
from fx_nnx.objects.pytree import Pytree

__all__ = ["lasting_records", "modules_around"]


def modules_around(f: Any) -> list[Pytree]:
    """Returns the modules in the closure of a function, and among the globals that its code names.

    Functions that it sees there are looked into, too, as far as they are of the same source file.
    """
    found: dict[int, Pytree] = {}
    seen: set[int] = set()
    rest = [f]
    while rest:
        value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Pytree):
            found[id(value)] = value
        elif isinstance(value, functools.partial):
            rest += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, MethodType):
            rest += [value.__self__, value.__func__]
        elif isinstance(value, FunctionType):
            rest += [*_seen(value), getattr(value, "__wrapped__", None)]
        elif type(value) in (list, tuple, dict):
            rest += value.values() if type(value) is dict else value
        elif callable(value):
            rest.append(getattr(value, "__wrapped__", None))
    return list(found.values())


def _seen(f: FunctionType) -> Iterator[Any]:
    for cell in f.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in _names(f.__code__):
        value = f.__globals__.get(name)
        if not isinstance(value, FunctionType) or value.__globals__ is f.__globals__:
            yield value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def lasting_records(modules: Iterable[Pytree]) -> list[Record]:
    """Returns the records of modules whose changes of structure are noticed."""
    return [record for record in map(record_of, modules) if record.lasting]
