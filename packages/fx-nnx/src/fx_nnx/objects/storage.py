"""Where objects keep their attributes, what the graph functions note about them, and what ``vars`` gives."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from fx_core.compat.jax import current_trace

__all__ = [
    "AttributeView",
    "PytreeState",
    "SharedKinds",
    "Storage",
    "attributes_of",
    "begin",
    "begin_once",
    "get_trace",
    "put_fields",
    "set_kinds",
]


class Storage:
    """Where an object keeps its attributes and what the graph functions note about it."""

    __slots__ = ("__dict__", "__weakref__", "_nnx_kinds", "_nnx_links", "_nnx_record", "_nnx_trace")


attributes_of: Callable[[Any], dict[Any, Any]] = Storage.__dict__["__dict__"].__get__
"""Give the dictionary of attributes itself. Who changes it has to announce that, see `fx_nnx.links`."""

set_attributes = Storage.__dict__["__dict__"].__set__
set_kinds = Storage._nnx_kinds.__set__
set_links = Storage._nnx_links.__set__
set_record = Storage._nnx_record.__set__
set_trace = Storage._nnx_trace.__set__
get_trace = Storage._nnx_trace.__get__
put_fields = (set_attributes, set_kinds, set_links, set_record, set_trace)


class SharedKinds(dict[Any, bool]):
    """Kinds of the attributes of objects that were made alike; each takes its own before it changes them."""

    __slots__ = ()


def begin(obj: Any) -> None:
    """Creates an object without attributes and without other references."""
    set_kinds(obj, {})
    set_links(obj, None)
    set_record(obj, None)
    set_trace(obj, current_trace())


def begin_once(obj: Any) -> None:
    """Does that for an object that is not one yet."""
    try:
        get_trace(obj)
    except AttributeError:
        begin(obj)


class PytreeState:
    """What programs put among the attributes of an object that they make by ``__new__``; objects of fx need none."""

    __slots__ = ()

    def __init__(self, *_: Any, **__: Any): ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PytreeState)

    def __hash__(self) -> int:
        return hash(PytreeState)


class AttributeView(MutableMapping[str, Any]):
    """What ``vars(obj)`` gives: the attributes, where writing is the same as setting an attribute."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Any):
        self._owner = owner

    def __getitem__(self, name: str) -> Any:
        return attributes_of(self._owner)[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(value, PytreeState):
            self._owner._nnx_set(name, value)

    def __delitem__(self, name: str) -> None:
        self._owner._nnx_delete(name)

    def __iter__(self) -> Iterator[str]:
        return iter(attributes_of(self._owner))

    def __len__(self) -> int:
        return len(attributes_of(self._owner))

    def __repr__(self) -> str:
        return repr(attributes_of(self._owner))
