"""What functions see besides their arguments."""

import types
from collections.abc import Iterator
from typing import Any

from fx_linen.module._base import ModuleBase
from fx_linen.transforms._fingerprint import Same

__all__ = ["Surroundings"]

Source = tuple[dict[str, Any], str] | types.CellType
_ABSENT = object()


class Surroundings:
    """The variables around functions: those of the functions that they are in, and global ones.

    Functions and module classes among their values are looked into, too, if they are of the same file.

    Args:
      *roots: functions, and classes of modules.
    """

    def __init__(self, *roots: Any):
        self._sources: list[Source] = []
        seen: set[int] = set()
        waiting = [(root, getattr(root, "__module__", None)) for root in roots]
        while waiting:
            value, module = waiting.pop()
            if id(value) in seen or getattr(value, "__module__", None) != module:
                continue
            seen.add(id(value))
            for function in _functions(value):
                for source in _sources(function):
                    self._sources.append(source)
                    waiting.append((_value(source), function.__module__))
        self._first = self.values()

    def values(self) -> tuple[Same, ...]:
        """The present values."""
        return tuple(Same(_value(source)) for source in self._sources)

    def current(self) -> bool:
        """Whether the values are those it was made with."""
        return self.values() == self._first


def _functions(value: Any) -> Iterator[types.FunctionType]:
    if isinstance(value, types.FunctionType):
        inner = getattr(value, "__wrapped__", None)
        yield from (value,) if inner is None else _functions(inner)
    elif isinstance(value, property):
        yield from _functions(value.fget)
    elif isinstance(value, types.MethodType | staticmethod | classmethod):
        yield from _functions(value.__func__)
    elif isinstance(value, type) and issubclass(value, ModuleBase):
        for cls in value.__mro__:
            if issubclass(cls, ModuleBase) and not cls.__module__.startswith("fx_linen.module."):
                for item in vars(cls).values():
                    yield from () if isinstance(item, type) else _functions(getattr(item, "wrapped", item))


def _sources(function: types.FunctionType) -> Iterator[Source]:
    yield from function.__closure__ or ()
    around = function.__globals__
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        for name in code.co_names:
            if name in around:
                yield around, name
        waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]


def _value(source: Source) -> Any:
    if isinstance(source, tuple):
        return source[0].get(source[1], _ABSENT)
    try:
        return source.cell_contents
    except ValueError:  # not assigned yet
        return _ABSENT
