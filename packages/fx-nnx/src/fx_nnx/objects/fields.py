"""Declaring attributes as data or static, and telling which is which."""

import dataclasses
import inspect
import sys
from typing import Annotated, Any, TypeVar

import jax
import numpy as np
from fx_core.array_node import ArrayNode

from fx_nnx.states.state import State
from fx_nnx.variables.variable import Variable

__all__ = [
    "Data",
    "Static",
    "annotated",
    "data",
    "declaration",
    "exchangeable",
    "has_data",
    "is_array",
    "is_branch",
    "is_data",
    "register_data_type",
    "static",
]

A = TypeVar("A")
T = TypeVar("T", bound=type)
_MISSING: Any = object()

_KIND = "fx_nnx_data"
_VALUE = "fx_nnx_value"

Data = Annotated[A, "fx_nnx_data"]
"""As an annotation of a class attribute, ``layers: nnx.Data[list]``, it declares what `data` declares."""
Static = Annotated[A, "fx_nnx_static"]
"""As an annotation of a class attribute, ``size: nnx.Static[int]``, it declares what `static` declares."""
_MARKS = {"fx_nnx_data": True, "fx_nnx_static": False}


def data(value: Any = _MISSING, **kwargs: Any) -> Any:
    """Declares that an attribute holds data: arrays, variables, modules, or plain containers of them.

    On assignment, ``self.table = nnx.data([...])``; or for a class, ``table: list = nnx.data()``, where the keyword
    arguments are those of `dataclasses.field`.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> class Tables(nnx.Module):
    ...     def __init__(self):
    ...         self.tables = nnx.data([jnp.ones(2), jnp.ones(3)])
    >>> len(nnx.to_flat_state(nnx.state(Tables())))
    2
    """
    return _field(True, value, kwargs)


def static(value: Any = _MISSING, **kwargs: Any) -> Any:
    """Declares that an attribute is static: a hashable part of the structure, for which functions are compiled anew.

    It is used like `data`.

    >>> import fx_nnx as nnx
    >>> class Layer(nnx.Module):
    ...     def __init__(self):
    ...         self.sizes = nnx.static((2, 3))
    >>> nnx.to_flat_state(nnx.state(Layer()))
    FlatState([])
    """
    return _field(False, value, kwargs)


def _field(is_data: bool, value: Any, kwargs: dict[str, Any]) -> Any:
    extra = {_KIND: is_data} if value is _MISSING else {_KIND: is_data, _VALUE: value}
    return dataclasses.field(metadata={**kwargs.pop("metadata", {}), **extra}, **kwargs)


def annotated(cls: type[Any]) -> dict[str, bool]:
    """Returns the attributes that the annotations of a class declare, and whether they are data."""
    found: dict[str, bool] = {}
    for name, annotation in inspect.get_annotations(cls).items():
        if isinstance(annotation, str):
            try:
                annotation = eval(
                    annotation, vars(sys.modules[cls.__module__]), dict(vars(cls))
                )  # the class's own text
            except Exception:  # a name for type checkers only
                continue
        for mark in getattr(annotation, "__metadata__", ()):
            if isinstance(mark, str) and mark in _MARKS:
                found[name] = _MARKS[mark]
    return found


def declaration(value: Any) -> tuple[bool, Any] | None:
    """Returns kind and value of what `data` or `static` returned, or None for anything else."""
    if type(value) is dataclasses.Field and _KIND in value.metadata:
        return value.metadata[_KIND], value.metadata.get(_VALUE, _MISSING)
    return None


_by_type: dict[type, bool] = {}
_arrays: dict[type, bool] = {}
_leaves: dict[type, bool] = {}


def register_data_type(type_: T, /) -> T:
    """Creates values of a type count as data wherever they are assigned; also a decorator.

    The type has to be a pytree.

    >>> import dataclasses
    >>> import jax
    >>> import fx_nnx as nnx
    >>> @nnx.register_data_type
    ... @jax.tree_util.register_dataclass
    ... @dataclasses.dataclass
    ... class Box:
    ...     value: jax.Array
    >>> nnx.is_data(Box(jax.numpy.ones(2)))
    True
    """
    _by_type[type_] = True
    return type_


def is_data(value: Any, /) -> bool:
    """Returns whether a value counts as data by itself: arrays, variables, modules, states and registered types do.

    >>> is_data(np.ones(2)), is_data(1), is_data([np.ones(2)])
    (True, False, False)
    """
    kind = type(value)
    found = _by_type.get(kind)
    if found is None:
        found = _by_type[kind] = isinstance(value, Variable | State) or is_array(value)
    return found


def is_array(value: Any) -> bool:
    """Returns whether a value is an array, a tracer, the shape of an array, or a node that stands in for one."""
    kind = type(value)
    found = _arrays.get(kind)
    if found is None:
        found = isinstance(value, jax.Array | np.ndarray | jax.ShapeDtypeStruct | jax.Ref | ArrayNode)
        _arrays[kind] = found
    return found


def exchangeable(old: Any, new: Any) -> bool:
    """Returns whether a value in the place of another changes no structure: both are arrays, and none is a `jax.Ref`,
    which may be in another place as well.
    """
    return is_array(old) and is_array(new) and not isinstance(old, jax.Ref) and not isinstance(new, jax.Ref)


def has_data(value: Any, /) -> list[Any]:
    """Returns the data inside a value, which may be any pytree.

    >>> has_data({"a": [1, np.ones(1)]})
    [array([1.])]
    """
    if is_data(value):
        return [value]
    if value is None or is_leaf(value):
        return []
    return [leaf for leaf in jax.tree.leaves(value, is_leaf=is_data) if is_data(leaf)]


def is_branch(value: Any) -> bool:
    """Returns whether a value is data or a container that may hold some, now or later."""
    return is_data(value) or (value is not None and not is_leaf(value))


def is_leaf(value: Any) -> bool:
    """Returns whether JAX sees no structure in a value."""
    kind = type(value)
    found = _leaves.get(kind)
    if found is None:
        found = value is not None and jax.tree_util.all_leaves([value])
        _leaves[kind] = found
    return found
