"""Modules that a function sees without getting them as arguments."""

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

from fx_nnx.graph.record import Record, record_of
from fx_nnx.objects.pytree import Pytree

__all__ = ["lasting_records", "modules_around"]


_MOST = 10_000
"""So many objects are looked at: what a function sees may lead to all the data of a program."""
_LEAVES = (str, bytes, bytearray, int, float, complex, type(None), type, ModuleType, np.ndarray, jax.Array)


def modules_around(f: Any) -> list[Pytree]:
    """Returns the modules in the closure of a function, in its defaults, and among the globals that its code names.

    Containers, objects of other classes and functions that it sees there are looked into, too, functions as far as they
    are of the same source file.
    """
    found: dict[int, Pytree] = {}
    seen: set[int] = set()
    rest = [f]
    while rest and len(seen) < _MOST:
        value = rest.pop()
        if id(value) in seen or isinstance(value, _LEAVES):
            continue
        seen.add(id(value))
        if isinstance(value, Pytree):
            found[id(value)] = value
        else:
            rest += _within(value)
    return list(found.values())


def _within(value: Any) -> Iterator[Any]:
    """Give what is in a container, an object or a function."""
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, FunctionType):
        yield from (*_seen(value), getattr(value, "__wrapped__", None))
    elif isinstance(value, Mapping):
        yield from list(value.values())
    elif isinstance(value, Sequence | Set):
        yield from list(value)
    else:
        call = inspect.getattr_static(type(value), "__call__", None)
        yield call if isinstance(call, FunctionType) else None
    if not isinstance(value, FunctionType):
        yield from list(getattr(value, "__dict__", {}).values())


def _seen(f: FunctionType) -> Iterator[Any]:
    for cell in f.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values())
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
