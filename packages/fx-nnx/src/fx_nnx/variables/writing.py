"""Writing into references and into parts of values, with errors that say what does not fit."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.typing import Dtype
from jax.core import Tracer

from fx_nnx.errors import variable_value
from fx_nnx.locate import path_of

__all__ = ["boxed", "is_foreign", "is_ref", "new_ref", "own_container", "own_value", "write_ref", "written"]


def is_ref(value: Any) -> bool:
    """Returns whether it is a `jax.Ref`."""
    return isinstance(value, jax.Ref)


def own_value(cls: type[Any], value: Any) -> Any:
    """Returns a value that a variable of some type is to store, which must be no variable of another library.

    Such a variable would compute like an array, while its own type, metadata and identity decide what transforms and
    filters make of it.

    Raises:
      NnxError: it is one.
    """
    if is_foreign(type(value)):
        kind = type(value)
        raise variable_value(
            cls.__name__,
            None,
            "a variable of another library cannot be its value",
            expected="an array, or a variable of fx_nnx",
            got=f"a {kind.__module__}.{kind.__qualname__}",
            fix="give what it holds: its get_value(), or for a whole state the to_pure_dict of that library",
        )
    return value


@functools.lru_cache(maxsize=512)
def is_foreign(kind: type[Any]) -> bool:
    """Returns whether a type is one of variables, with a value and metadata, that are not ours."""
    return (
        hasattr(kind, "get_metadata")
        and (hasattr(kind, "get_value") or hasattr(kind, "value"))
        and getattr(kind, "__fx_identity__", None) != "variable"
    )


def new_ref(cls: type[Any], value: Any) -> Any:
    """Creates a reference for a variable of some type.

    Raises:
      NnxError: the value is no array.
    """
    try:
        return jax.new_ref(value)
    except TypeError as error:
        raise variable_value(
            cls.__name__,
            None,
            "the value cannot be held by a reference",
            expected="an array or a number",
            got=_describe(value),
            fix="give an array, or make the variable with ref=False",
        ) from error


def boxed(cls: type[Any], value: Any, meta: Any) -> Any:
    """Returns a value as a variable with some metadata keeps it: an array in a reference, if that says so."""
    return new_ref(cls, value) if meta.ref and isinstance(value, jax.Array) and not is_ref(value) else value


def write_ref(variable: Any, ref: Any, value: Any) -> None:
    """Writes a value into the reference of a variable.

    Raises:
      NnxError: the value has another shape or dtype.
    """
    try:
        ref[...] = value
    except (TypeError, ValueError) as error:
        expected, got = _describe(ref), _describe(value)
        if expected == got:  # it is not the value that is wrong
            raise
        raise variable_value(
            type(variable).__name__,
            path_of(variable),
            "the value does not fit the reference that holds it",
            expected=expected,
            got=got,
            fix="give a value of that shape and dtype (.astype, jnp.broadcast_to); for another one make a new variable",
        ) from error


def written(variable: Any, index: Any, value: Any) -> Any:
    """Returns what a variable is to store when a value is written into ``variable[index]``.

    What is stored keeps its kind: an array its shape, dtype and sharding, a NumPy array stays one, a dictionary or list
    is copied with another item. A number, or another value without items, is replaced as a whole; so is what a
    `jax.Ref` holds, which takes nothing of another type.

    Raises:
      NnxError: the value does not fit there.
    """
    whole = variable.get_raw_value()
    if is_ref(whole):
        return value if index is Ellipsis else _fitting(variable, whole[...], index, value, _with_part)
    if isinstance(whole, np.ndarray) and not isinstance(value, Tracer):
        return _fitting(variable, whole, index, value, _with_items)
    if isinstance(whole, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        if isinstance(whole, np.ndarray):
            whole = jnp.asarray(whole)
        if index is not Ellipsis:
            return _placed(_fitting(variable, whole, index, value, _with_part), whole)
        if not _same_type(value, whole):
            value = _fitting(variable, whole, index, value, _filled)
        return _placed(value, whole)
    return value if index is Ellipsis else _with_item(variable, whole, index, value)


def _same_type(value: Any, whole: Any) -> bool:
    if not isinstance(value, jax.Array) or value.shape != whole.shape or value.dtype != whole.dtype:
        return False
    return not getattr(value, "weak_type", False) or getattr(whole, "weak_type", False)  # keys have none


def _filled(whole: Any, _: Any, value: Any) -> jax.Array:
    """Give an array of the shape and dtype of another one, which promotes as that one does."""
    if value is None:
        raise TypeError("None is no array")
    value = jnp.asarray(value)
    if isinstance(whole, jax.Array) and (_rank(value.dtype) > _rank(whole.dtype) or getattr(whole, "weak_type", False)):
        return whole.at[...].set(value)  # which warns of what is lost, and keeps a weak type
    return jnp.broadcast_to(jax.lax.convert_element_type(value, whole.dtype), whole.shape)


def _rank(dtype: Dtype) -> int:
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next((rank for rank, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind)), 0)


def _with_part(whole: Any, index: Any, value: Any) -> jax.Array:
    return whole.at[index].set(value)


def _with_items(whole: Any, index: Any, value: Any) -> Any:
    made = whole.copy()  # others may hold the array
    made[index] = value
    return made


def _placed(value: Any, whole: Any) -> Any:
    """Give an array where another one is, if its placement was chosen."""
    if isinstance(whole, Tracer) or isinstance(value, Tracer):
        wanted = jax.typeof(whole).sharding
        explicit = jax.sharding.AxisType.Explicit in wanted.mesh.axis_types
        return jax.sharding.reshard(value, wanted) if explicit and jax.typeof(value).sharding != wanted else value
    if isinstance(whole, jax.ShapeDtypeStruct):
        return value if whole.sharding is None else jax.device_put(value, whole.sharding)
    if not whole.committed or value.sharding == whole.sharding:
        return value
    return jax.device_put(value, whole.sharding)


def _with_item(variable: Any, whole: Any, index: Any, value: Any) -> Any:
    """Give a container with another item; who got the container from the variable before keeps what it was."""
    made = own_container(whole)
    try:
        made[index] = value
    except (TypeError, LookupError) as error:
        error.add_note(f"writing to [{index!r}] of {path_of(variable) or type(variable).__name__}")
        raise
    return made


def own_container(value: Any) -> Any:
    """Returns a copy of a dictionary or list, and anything else as it is."""
    return copy.copy(value) if isinstance(value, dict | list) else value


def _fitting(variable: Any, whole: Any, index: Any, value: Any, write: Callable[[Any, Any, Any], Any]) -> Any:
    try:
        return write(whole, index, value)
    except (TypeError, ValueError) as error:
        try:
            place = whole if index is Ellipsis else jax.eval_shape(lambda x: x[index], whole)
        except Exception:  # it is the index that is wrong
            raise error from None
        raise variable_value(
            type(variable).__name__,
            path_of(variable),
            f"the value does not fit the place [{'...' if index is Ellipsis else repr(index)}]",
            expected=f"what broadcasts to {_describe(place)}",
            got=_describe(value),
            fix="write a value of the shape that reading with this index gives; set_value replaces the whole value",
        ) from error


def _describe(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, int | float | complex):
        return f"{jnp.result_type(value)} of shape ()"
    return repr(value)
