"""Where objects keep their attributes, and what the graph functions note about them."""

from collections.abc import Callable
from typing import Any

from fx_core.compat.jax import current_trace

__all__ = [
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
