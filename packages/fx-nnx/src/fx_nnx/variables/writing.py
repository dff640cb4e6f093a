"""Writing into references and into parts of values, with errors that say what does not fit."""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors.nnx_variables import VariableValueError

from fx_nnx.locate import path_of

__all__ = ["is_ref", "new_ref", "with_part", "write_ref"]


def is_ref(value: Any) -> bool:
    """Whether it is a `jax.Ref`."""
    return isinstance(value, jax.Ref)


def new_ref(cls: type[Any], value: Any) -> Any:
    """Make a reference for a variable of some type.

    Raises:
      VariableValueError: the value is no array.
    """
    try:
        return jax.new_ref(value)
    except TypeError as error:
        raise VariableValueError(
            cls.__name__,
            None,
            "the value cannot be held by a reference",
            expected="an array or a number",
            got=_describe(value),
            fix="give an array, or make the variable with ref=False",
        ) from error


def write_ref(variable: Any, ref: Any, value: Any) -> None:
    """Write a value into the reference of a variable.

    Raises:
      VariableValueError: the value has another shape or dtype.
    """
    try:
        ref[...] = value
    except (TypeError, ValueError) as error:
        expected, got = _describe(ref), _describe(value)
        if expected == got:  # it is not the value that is wrong
            raise
        raise VariableValueError(
            type(variable).__name__,
            path_of(variable),
            "the value does not fit the reference that holds it",
            expected=expected,
            got=got,
            fix="give a value of that shape and dtype (.astype, jnp.broadcast_to); for another one make a new variable",
        ) from error


def with_part(variable: Any, index: Any, value: Any) -> jax.Array:
    """Give what a variable stores, with a new part.

    Raises:
      VariableValueError: the new part does not fit there.
    """
    raw = variable.get_raw_value()
    whole = jnp.asarray(raw[...] if is_ref(raw) else raw)
    try:
        return whole.at[index].set(value)
    except (TypeError, ValueError) as error:
        try:
            place = jax.eval_shape(lambda x: x[index], whole)
        except Exception:  # it is the index that is wrong
            raise error from None
        raise VariableValueError(
            type(variable).__name__,
            path_of(variable),
            f"the value does not fit the place [{index!r}]",
            expected=f"what broadcasts to {_describe(place)}",
            got=_describe(value),
            fix="write a value of the shape that reading with this index gives",
        ) from error


def _describe(value: Any) -> str:
    if hasattr(value, "dtype") or isinstance(value, int | float | complex):
        return f"{jnp.result_type(value)} of shape {jnp.shape(value)}"
    return repr(value)
