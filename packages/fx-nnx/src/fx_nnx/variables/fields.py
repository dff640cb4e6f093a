"""What a variable keeps, apart from what a variable is.

Many variables are made at once when a model is cloned or merged. `Variable` guards its attributes, which makes setting
them slow; so a new one is filled as a bare object first, and becomes a variable then.
"""

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["VariableFields", "VariableType", "copied_all", "filled", "put_value"]


class VariableFields:
    """The attributes of variables."""

    __slots__ = ("__weakref__", "_meta", "_nnx_links", "_trace", "_value")


put_value = VariableFields.__dict__["_value"].__set__
"""Store a value in a variable without hooks and checks; for many at once, which were checked before."""


class VariableType(type):
    """The class of variable classes: without attributes of their own, so that bare fields can become any of them."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        """Make a class that adds no attributes, unless it says which."""
        namespace.setdefault("__slots__", ())
        return super().__new__(mcs, name, bases, namespace, **kwargs)


def filled(cls: type[Any], value: Any, meta: Any, trace: object) -> Any:
    """Make a variable of its fields."""
    self: Any = VariableFields()
    self._value = value
    self._meta = meta
    self._trace = trace
    self._nnx_links = None
    try:
        self.__class__ = cls
    except TypeError:  # a class with attributes of its own, by a base class without __slots__
        self = object.__new__(cls)
        for name, field in (("_value", value), ("_meta", meta), ("_trace", trace), ("_nnx_links", None)):
            object.__setattr__(self, name, field)
    return self


def copied_all(types: Sequence[Any], sources: Iterable[Any], metas: Iterable[Any], trace: object) -> list[Any]:
    """Make variables with the values of others, of types that bare fields can become; None takes the source itself."""
    made: list[Any] = []
    for cls, source, meta in zip(types, sources, metas):
        if cls is not None:
            new: Any = VariableFields()
            new._value = source._value  # one by one, which is faster
            new._meta = meta
            new._trace = trace
            new._nnx_links = None
            new.__class__ = cls
            source = new
        made.append(source)
    return made
