"""What a variable keeps, apart from what a variable is.

Many variables are made at once when a model is cloned or merged. `Variable` guards its attributes, which makes setting
them slow; so a new one is filled as a bare object first, and becomes a variable then.
"""

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "VariableFields",
    "VariableType",
    "copied_all",
    "filled",
    "get_links",
    "keep_links",
    "put_links",
    "put_value",
]


class VariableFields:
    """The attributes of variables."""

    __slots__ = ("__weakref__", "_nnx_links", "_nnx_meta", "_nnx_trace", "_raw_value")


_put_fields = [
    VariableFields.__dict__[name].__set__ for name in ("_raw_value", "_nnx_meta", "_nnx_trace", "_nnx_links")
]
put_value = VariableFields.__dict__["_raw_value"].__set__
"""Store a value in a variable without hooks and checks; for many at once, which were checked before."""
get_links = VariableFields.__dict__["_nnx_links"].__get__
put_links = VariableFields.__dict__["_nnx_links"].__set__
"""Read and note what is linked to a variable, see `fx_nnx.links`."""


def keep_links(variable: VariableFields) -> bool:
    """Notes that nothing is linked to a new variable, and returns whether it is one; one that is initialized again has
    to announce that it changes.
    """
    try:
        get_links(variable)
    except AttributeError:
        put_links(variable, None)
        return True
    return False


class VariableType(type):
    """The class of variable classes: without attributes of their own, so that bare fields can become any of them.

    A class without ``__slots__`` is open: attributes are kept as metadata, see `fx_nnx.variables.attributes`.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any) -> Any:
        """Creates a class that adds no attributes, unless it says which."""
        closed = "__slots__" in namespace and not any(getattr(base, "_nnx_open", False) for base in bases)
        namespace["_nnx_open"] = not closed
        namespace.setdefault("__slots__", ())
        return super().__new__(mcs, name, bases, namespace, **kwargs)


def filled(cls: type[Any], value: Any, meta: Any, trace: object, links: Any = None) -> Any:
    """Creates a variable of its fields."""
    self: Any = VariableFields()
    self._raw_value = value
    self._nnx_meta = meta
    self._nnx_trace = trace
    self._nnx_links = links
    try:
        self.__class__ = cls
    except TypeError:  # a class with attributes of its own, by a base class without __slots__
        self = object.__new__(cls)
        for put, field in zip(_put_fields, (value, meta, trace, links)):
            put(self, field)
    return self


def copied_all(types: Sequence[Any], sources: Iterable[Any], metas: Iterable[Any], trace: object) -> list[Any]:
    """Creates variables with the values of others, of types that bare fields can become."""
    made: list[Any] = [VariableFields() for _ in types]
    for new, cls, source, meta in zip(made, types, sources, metas):
        new._raw_value = source._raw_value  # one by one, which is faster
        new._nnx_meta = meta
        new._nnx_trace = trace
        new._nnx_links = None
        new.__class__ = cls
    return made
