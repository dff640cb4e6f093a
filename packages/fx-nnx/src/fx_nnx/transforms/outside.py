"""Modules that a function sees without getting them as arguments."""

import dis
import functools
import inspect
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from types import CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

from fx_nnx.graph.record import Record, record_of
from fx_nnx.objects.pytree import Pytree

__all__ = ["Seen", "modules_around", "seen_from"]


_MOST = 10_000
"""So many objects are looked at: what a function sees may lead to all the data of a program."""
_LONGEST = 1_000_000
"""So many items of one container are."""
_LEAVES = (str, bytes, bytearray, int, float, complex, type(None), type, ModuleType, np.ndarray, jax.Array)


class Seen:
    """A module that a function sees from outside, and what it was like.

    Its static attributes, and the arrays that no variable holds, are constants of what is compiled.
    """

    __slots__ = ("_leaves", "_module", "_record")

    def __init__(self, module: Pytree, record: Record):
        self._module, self._record, self._leaves = weakref.ref(module), record, record.read()

    def holds(self) -> bool:
        """Returns whether the module has the same attributes, variables and arrays; not what the variables hold."""
        record = self._record
        if record.alive and (not record.contents or record.holds()):
            return record.only_variables or self._has_leaves(record)
        module = self._module()
        if module is None:
            return True
        record = record_of(module)
        if record.graphdef != self._record.graphdef or not self._has_leaves(record):
            return False
        if record.lasting:
            self._record = record
        return True

    def _has_leaves(self, record: Record) -> bool:
        return all(now is before for now, before in zip(record.read(), self._leaves))


def seen_from(f: Any, bound: Sequence[Any] = ()) -> list[Seen]:
    """Returns what a function sees from outside, as far as changes of it are noticed.

    Args:
      f: the function.
      bound: what it is bound to, which it gets like arguments.
    """
    pairs = [(module, record_of(module)) for module in modules_around(f, bound)]
    return [Seen(module, record) for module, record in pairs if record.lasting]


def modules_around(f: Any, bound: Sequence[Any] = ()) -> list[Pytree]:
    """Returns the modules in the closure of a function, in its defaults, and among the globals that its code reads.

    Containers, objects of other classes and functions that it sees there are looked into, too, functions as far as they
    are of the same source file.

    Args:
      f: the function.
      bound: modules that are not looked for.
    """
    found: dict[int, Pytree] = {}
    seen = {id(value) for value in bound}
    rest = [type(f).__call__ if id(f) in seen else f]  # type: ignore[operator]  # a module that is called
    while rest and len(seen) < _MOST:
        value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Pytree):
            found[id(value)] = value
        else:
            rest += [item for item in islice(_within(value), _LONGEST) if not isinstance(item, _LEAVES)]
    return list(found.values())


def _within(value: Any) -> Iterator[Any]:
    """Give what is in a container, an object or a function."""
    if isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, FunctionType):
        yield from (*_seen(value), getattr(value, "__wrapped__", None))
    elif isinstance(value, dict | MappingProxyType):
        yield from list(value.values())
    elif isinstance(value, list | tuple | set | frozenset | deque):  # others may make, or load, what they give
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


@functools.lru_cache(maxsize=4096)
def _names(code: CodeType) -> frozenset[str]:
    """Give the globals that a function reads; the names of attributes are among those of its code, too."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return frozenset(found.union(*[_names(part) for part in code.co_consts if isinstance(part, CodeType)]))
