"""Readable ``repr`` for modules, variables and states."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.core import Tracer

__all__ = ["Representable", "show_fields", "show_value"]

_SMALL = 6
# Objects being shown, for cycles. Only a repr that runs in two threads at once may show "(...)" too early.
_showing: list[int] = []


class Representable:
    """Gives a class a ``repr`` made by its method ``_show``."""

    __slots__ = ()

    def __repr__(self) -> str:
        if id(self) in _showing:
            return f"{type(self).__name__}(...)"
        _showing.append(id(self))
        try:
            return self._show()
        finally:
            _showing.pop()

    def _show(self) -> str:
        return object.__repr__(self)


def show_value(value: Any) -> str:
    """Show one value: big arrays by shape and dtype, objects that are being shown already by their type."""
    if isinstance(value, jax.Array) and not isinstance(value, Tracer) and value.size > _SMALL:
        return f"Array(shape={value.shape}, dtype={value.dtype})"
    if isinstance(value, Representable):
        return repr(value)
    if isinstance(value, type) or callable(value):
        return getattr(value, "__name__", None) or repr(value)
    return repr(value)


def show_fields(name: str, fields: Mapping[Any, Any], note: str = "") -> str:
    """Show a named thing with fields, one per line, indented.

    >>> print(show_fields("Point", {"x": 1, "y": 2}))
    Point(
      x=1,
      y=2
    )
    """
    head = f"{name}( # {note}" if note else f"{name}("
    if not fields:
        return f"{name}()"
    lines = [
        f"{key}={show_value(value)}" if isinstance(key, str) else show_value(value) for key, value in fields.items()
    ]
    body = ",\n".join(lines).replace("\n", "\n  ")
    return f"{head}\n  {body}\n)"
