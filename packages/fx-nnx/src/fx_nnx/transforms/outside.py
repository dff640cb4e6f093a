"""Modules that a function sees without getting them as arguments, and the places that lead to them."""

import contextlib
import functools
import inspect
import sys
import sysconfig
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from itertools import islice
from types import CellType, FunctionType, MappingProxyType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from fx_nnx.graph.record import Record, record_of
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.transforms.code import code_of

__all__ = ["Routes", "Seen", "seen_from"]


_MOST = 10_000
"""So many objects are looked at: what a function sees may lead to all the data of a program."""
_LONGEST = 1_000_000
"""So many items of one container are."""
_LEAVES = (str, bytes, bytearray, int, float, complex, type(None), type, ModuleType, np.ndarray, jax.Array)
_INSTALLED = tuple({sysconfig.get_path(kind) for kind in ("purelib", "platlib", "stdlib", "platstdlib")})
_OURS = (Pytree, FunctionType, MethodType, functools.partial)
"""Whose methods are not looked at."""
_CALLED = (FunctionType, MethodType, functools.partial)
_LIBRARIES = frozenset(("jax", "jaxlib", "numpy", "optax", "fx_nnx", "fx_core", "fx_transforms"))
"""Packages whose functions are not looked into where a module has them as attributes, such as initializers."""
_SIZE = object()
"""In place of a key: the number of items."""


class Seen:
    """A module that a function sees from outside, and what it was like.

    Its static attributes, and the arrays that no variable holds, are constants of what is compiled.
    """

    __slots__ = ("_leaves", "_module", "_record")

    def __init__(self, module: Pytree, record: Record):
        self._module, self._leaves = weakref.ref(module, self._drop), record.read()
        self._record: Record | None = record

    def _drop(self, module: Any) -> None:
        """Keep nothing of a module that is gone; whether its variables were read is known to `Captures`."""
        self._record, self._leaves = None, []

    def holds(self) -> bool:
        """Returns whether the module has the same attributes, variables and arrays; not what the variables hold."""
        record = self._record
        if record is None:
            return True
        if record.alive and (not record.contents or record.holds()):
            return record.only_variables or self._has_leaves(record)
        module = self._module()
        if module is None:
            return True
        before, record = record, record_of(module)
        if record.graphdef != before.graphdef or not self._has_leaves(record):
            return False
        if record.lasting:
            self._record = record
        return True

    def _has_leaves(self, record: Record) -> bool:
        return all(now is before for now, before in zip(record.read(), self._leaves))


class Routes:
    """What leads to the modules that a function sees from outside, and what is there."""

    __slots__ = ("_empty", "_held")

    def __init__(self, found: "_Around"):
        self._held, self._empty = [(spot, _reference(value)) for spot, value in found.routes], found.empty

    def holds(self) -> bool:
        """Returns whether they lead to the same modules."""
        for spot, there in self._held:
            now = _content(spot)
            if now is None or now is not there():
                return False
        return not any(isinstance(_content(spot), Pytree) for spot in self._empty)


def _reference(value: Any) -> Callable[[], Any]:
    """Refer to a value; a module is not kept."""
    return weakref.ref(value) if isinstance(value, Pytree) else lambda: value


def seen_from(f: Any, bound: Sequence[Any], given: Iterable[Any], around: dict[int, Any]) -> list[Seen | Routes]:
    """Returns what a function sees from outside, as far as changes of it are noticed.

    Args:
      f: the function, or a tuple of functions.
      bound: what it is bound to, which it gets like arguments.
      given: the modules that it gets, and all in them.
      around: by identity, what else sees something while it runs: static arguments, to which functions are added that
        modules have as static attributes, and methods of modules that may see others.
    """
    held = [
        found
        for value in given
        if isinstance(value, Pytree)
        for found in (*_open_methods(type(value)), *attributes_of(value).values())
        if isinstance(found, _CALLED) and str(getattr(found, "__module__", "")).partition(".")[0] not in _LIBRARIES
    ]
    around.update([(id(value), value) for value in held])
    seeing = (*(f if type(f) is tuple else (f,)), *around.values())
    if all(type(part) is FunctionType and _sees_nothing(part) for part in seeing):
        return []
    found = _around(seeing, bound)
    pairs = [(module, record_of(module)) for module in found.modules]
    seen: list[Seen | Routes] = [Seen(module, record) for module, record in pairs if record.lasting]
    if found.routes or found.empty:
        seen.append(Routes(found))
    return seen


class _Spot(NamedTuple):
    """Something that a value can be taken from again.

    Attributes:
      holder: a cell of a closure, the globals of a function, the attributes of an object, or a container.
      key: name or position.
    """

    holder: Any
    key: Any


def _content(spot: _Spot) -> Any:
    """Returns what is at a spot now; None if there is nothing."""
    holder, key = spot
    try:
        if type(holder) is CellType:
            return holder.cell_contents
        return len(holder) if key is _SIZE else holder[key]
    except (ValueError, LookupError):  # a cell that nothing is assigned to, or an item that is gone
        return None


class _Around(NamedTuple):
    """What a function can reach.

    Attributes:
      modules: the modules.
      routes: what leads to them, with what was there.
      empty: globals and variables of the function that are None.
    """

    modules: list[Pytree]
    routes: list[tuple[_Spot, Any]]
    empty: list[_Spot]


class _Step(NamedTuple):
    """That a value was found in another one.

    Attributes:
      source: where it was found.
      value: what was found.
      spot: where it can be taken from again; None if it cannot become another one.
      name: the name of the attribute that it is, if only code with this name reads it.
    """

    source: Any
    value: Any
    spot: _Spot | None = None
    name: str | None = None


def _around(seeing: Sequence[Any], bound: Sequence[Any]) -> _Around:
    """Finds the modules in the closures of functions, in their defaults, and among the globals that their code reads.

    Containers, objects of other classes and functions that they see there are looked into, too, functions as far as
    they do not belong to an installed package; and the attributes of Python modules and classes that their code names.

    Args:
      seeing: the functions, and other things that see something.
      bound: modules that are not looked for.
    """
    result = _Around([], [], [])
    steps: dict[int, list[_Step]] = {}  # by identity of what they lead to
    names: set[str] = set()
    kept: list[Any] = []  # so that identities stay theirs
    seen = {id(value) for value in bound}
    # A module that is called is bound, but its method is looked at.
    rest = [type(part).__call__ if id(part) in seen else part for part in seeing]
    while rest and len(seen) < _MOST:
        value = rest.pop()
        if id(value) not in seen:
            seen.add(id(value))
            kept.append(value)
            if isinstance(value, Pytree):
                result.modules.append(value)
            else:
                if isinstance(value, FunctionType):
                    names |= code_of(value.__code__).names
                for step in _within(value):
                    if not isinstance(step.value, _LEAVES):
                        rest.append(step.value)
                    elif step.value is None and step.spot is not None and isinstance(value, FunctionType):
                        result.empty.append(step.spot)
                    steps.setdefault(id(step.value), []).append(step)
        if not rest:
            kinds = {type(value) for value in kept if not isinstance(value, _OURS)}
            rest += [method for kind in kinds for method in _methods(kind, names) if id(method) not in seen]
    result.routes.extend(_leading(result.modules, steps, names))
    return result


def _sees_nothing(f: FunctionType) -> bool:
    """Whether a function reads its arguments alone, as most steps do."""
    held = f.__closure__ or f.__defaults__ or f.__kwdefaults__ or f.__dict__.get("__wrapped__")
    return not held and not any(code_of(f.__code__)[:3])


def _leading(modules: Sequence[Any], steps: dict[int, list[_Step]], names: set[str]) -> list[tuple[_Spot, Any]]:
    """Go back from modules, and collect the places on the way."""
    found: dict[tuple[int, Any], tuple[_Spot, Any]] = {}
    rest, seen = list(modules), set(map(id, modules))
    while rest:
        for source, value, spot, name in steps.get(id(rest.pop()), ()):
            if spot is not None and (name is None or name in names):
                found[id(spot.holder), spot.key] = spot, value
            if id(source) not in seen:
                seen.add(id(source))
                rest.append(source)
                if isinstance(source, list | dict | deque | set):
                    found[id(source), _SIZE] = _Spot(source, _SIZE), len(source)
    return list(found.values())


def _within(value: Any) -> Iterator[_Step]:
    """Give what is in a container, an object or a function."""
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield _Step(value, part)
    elif isinstance(value, MethodType):
        yield _Step(value, value.__self__)
        yield _Step(value, value.__func__)
    elif isinstance(value, FunctionType):
        yield from _read_by(value)
        yield _Step(value, getattr(value, "__wrapped__", None))
        return
    elif isinstance(value, dict | MappingProxyType):
        yield from [_Step(value, item, _Spot(value, key)) for key, item in islice(value.items(), _LONGEST)]
    elif isinstance(value, list | deque):  # others may make, or load, what they give
        yield from [_Step(value, item, _Spot(value, i)) for i, item in enumerate(islice(value, _LONGEST))]
    elif isinstance(value, tuple | set | frozenset):
        yield from [_Step(value, item) for item in islice(value, _LONGEST)]
    else:
        call = inspect.getattr_static(type(value), "__call__", None)
        yield _Step(value, call if isinstance(call, FunctionType) else None)
        yield from _of_class(value)
    attributes = getattr(value, "__dict__", {})
    inside = hasattr(type(value), "__getitem__")  # whose own code reads what it holds
    yield from [_Step(value, item, _Spot(attributes, k), None if inside else k) for k, item in list(attributes.items())]


def _of_class(value: Any) -> Iterator[_Step]:
    """Give what an object has by its class: modules among the attributes of that, and what is in slots."""
    if isinstance(value, weakref.ref):
        yield _Step(value, value())
    elif isinstance(value, ContextVar):
        with contextlib.suppress(LookupError):  # it is not set
            yield _Step(value, value.get())
    for part in type(value).__mro__:
        if not _is_installed(_space(part)):
            for name, item in list(vars(part).items()):
                if isinstance(item, Pytree):
                    yield _Step(value, item, _Spot(vars(part), name), name)
                elif isinstance(item, MemberDescriptorType):
                    yield _Step(value, getattr(value, name, None))


@functools.lru_cache(maxsize=1024)
def _open_methods(kind: type) -> tuple[FunctionType, ...]:
    """Give the methods of a class of modules that see more than arguments and what belongs to installed packages."""
    found: list[FunctionType] = []
    for part in kind.__mro__:
        if not _is_installed(_space(part)):
            methods = [getattr(item, "__wrapped__", item) for item in vars(part).values()]
            found += [f for f in methods if isinstance(f, FunctionType) and any(map(_is_open, _read_by(f)))]
    return tuple(found)


def _is_open(step: _Step) -> bool:
    value = step.value
    if isinstance(value, type | ModuleType):
        return isinstance(value, ModuleType) and not _is_installed(vars(value))
    if isinstance(value, FunctionType):
        return not _is_installed(value.__globals__)
    if value is None:
        holder, key = step.spot or (None, None)
        return isinstance(holder, CellType) or (isinstance(holder, dict) and key in holder)  # no name of Python itself
    return not (isinstance(value, _LEAVES) or (callable(value) and not isinstance(value, Pytree)))


def _methods(kind: type, names: set[str]) -> Iterator[FunctionType]:
    """Give the methods of a class that have one of some names."""
    for part in kind.__mro__:
        space = vars(part)
        if names.isdisjoint(space) or _is_installed(_space(part)):
            continue
        for name in names & space.keys():
            found = space[name]
            found = getattr(found, "__func__", getattr(found, "fget", found))  # of a class method, of a property
            if isinstance(found, FunctionType):
                yield found


def _read_by(f: FunctionType) -> Iterator[_Step]:
    cells, code = dict(zip(f.__code__.co_freevars, f.__closure__ or ())), code_of(f.__code__)
    for value in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()):
        yield _Step(f, value)
    for first, *names in code.variables:
        if first in cells:  # others are of the function itself
            spot = _Spot(cells[first], None)
            yield from _chain(_Step(f, _content(spot), spot), names)
    if str(f.__globals__.get("__name__")).partition(".")[0] in _LIBRARIES:  # whose globals hold nothing of a user's
        return
    for first, *names in code.globals:
        spot = _Spot(f.__globals__, first)
        value = _content(spot)
        if (
            not isinstance(value, FunctionType)
            or value.__globals__ is f.__globals__
            or not _is_installed(value.__globals__)
        ):
            yield from _chain(_Step(f, value, spot), names)
    for module, names in code.imports:
        for name in names:
            yield from _chain(_Step(f, sys.modules.get(module)), [name])


def _chain(step: _Step, names: Sequence[str]) -> Iterator[_Step]:
    """Give the value of a name, and those of its attributes as far as it is a Python module or a class."""
    yield step
    value = step.value
    for name in names:
        if not isinstance(value, type | ModuleType) or _is_installed(_space(value)):
            return
        spaces = [vars(part) for part in (value.__mro__ if isinstance(value, type) else (value,))]
        space = next((space for space in spaces if name in space), spaces[0])
        source, value = value, space.get(name)
        yield _Step(source, getattr(value, "__func__", value), _Spot(space, name))


def _space(value: type | ModuleType) -> dict[str, Any]:
    return vars(value if isinstance(value, ModuleType) else sys.modules.get(value.__module__, sys))


def _is_installed(space: dict[str, Any]) -> bool:
    """Whether globals are those of an installed package, of Python, or of ours."""
    file, package = space.get("__file__"), str(space.get("__name__")).partition(".")[0]
    return package == "fx_nnx" or (isinstance(file, str) and file.startswith(_INSTALLED)) or package == "builtins"
