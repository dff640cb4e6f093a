"""Other dtypes than the saved ones, for those who ask for them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.errors import CastError, InvalidOptionError
from fx_ckpt.structure import Leaf

_FAMILIES = (jnp.floating, jnp.integer, jnp.complexfloating)


def check_cast(cast: Any, target: Any) -> Any:
    """Give a cast as True, None, or a NumPy dtype.

    Raises:
      InvalidOptionError: it is no dtype of floating-point numbers, or True without a target.
    """
    if cast is None or cast is False:
        return None
    if cast is True:
        if target is None:
            raise InvalidOptionError("cast", "a dtype, where no target says which", cast)
        return True
    dtype = jnp.dtype(cast)
    if not jnp.issubdtype(dtype, jnp.floating) or dtype.name not in NUMBERS:
        raise InvalidOptionError("cast", "True, or a dtype of floating-point numbers", cast)
    return dtype


def cast_leaf(saved: Leaf, wanted: Leaf | None, cast: Any) -> Leaf:
    """Give what a leaf becomes: of the wanted dtype, if that is of the same family of numbers.

    Args:
      saved: what was saved.
      wanted: the target's leaf.
      cast: what `check_cast` gave.
    """
    if cast is None or saved.kind != "array" or saved.raw or saved.dtype not in NUMBERS:
        return saved
    if cast is True:
        if wanted is None or wanted.kind != "array" or wanted.raw:
            return saved
        dtype = NUMBERS[wanted.dtype]
    else:
        dtype = cast
    old = NUMBERS[saved.dtype]
    families = [f for f in _FAMILIES if jnp.issubdtype(old, f) and jnp.issubdtype(dtype, f)]
    if not families or old == dtype:
        return saved
    return dataclasses.replace(saved, dtype=dtype.name, weak=False)


def converted(stored: Any, saved: Leaf, wanted: Leaf, path: str) -> Any:
    """Convert a stored array.

    Raises:
      CastError: an integer would become another one.
    """
    if saved.dtype == wanted.dtype or not isinstance(stored, (np.ndarray, jax.Array)):
        return stored
    if stored.dtype.name != saved.dtype:
        return stored
    dtype = NUMBERS[wanted.dtype]
    if jnp.issubdtype(dtype, jnp.integer) and stored.size:
        limits, low, high = jnp.iinfo(dtype), int(stored.min()), int(stored.max())
        if low < limits.min or high > limits.max:
            raise CastError(path, saved.dtype, wanted.dtype, f"numbers from {low} to {high}")
    return stored.astype(dtype)
