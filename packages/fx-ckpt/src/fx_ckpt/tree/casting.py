"""Other dtypes than the saved ones, for those who ask for them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.stored_dtypes import NUMBERS

from fx_ckpt.errors import CastError, invalid_option
from fx_ckpt.tree.structure import Leaf

_FAMILIES = (jnp.floating, jnp.integer, jnp.complexfloating)


def check_cast(cast: Any, target: Any) -> Any:
    """Returns a cast as True, None, or a NumPy dtype.

    Raises:
      ArgumentError: it is no dtype of floating-point numbers, or True without a target.
    """
    if cast is None or cast is False:
        return None
    if cast is True:
        if target is None:
            fix = "Pass cast=jnp.bfloat16 or another dtype, or a target."
            raise invalid_option("cast", "a dtype, where no target says which", cast, fix)
        return True
    try:
        dtype = jnp.dtype(cast)
    except TypeError:
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or dtype.name not in NUMBERS:
        fix = "Pass cast=jnp.float32 or the like; integers follow the target, with cast=True."
        raise invalid_option("cast", "True, or a dtype of floating-point numbers", cast, fix)
    return dtype


def cast_leaf(saved: Leaf, wanted: Leaf | None, cast: Any) -> Leaf:
    """Returns what a leaf becomes: of the wanted dtype, if that is of the same family of numbers.

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
    """Converts a stored array.

    Raises:
      CastError: an integer would become another one, or a finite number infinite or NaN.
    """
    if saved.dtype == wanted.dtype or not isinstance(stored, (np.ndarray, jax.Array)):
        return stored
    if stored.dtype.name != saved.dtype:
        return stored
    dtype = NUMBERS[wanted.dtype]
    if jnp.issubdtype(dtype, jnp.integer) and stored.size:
        limits, low, high = jnp.iinfo(dtype), int(stored.min()), int(stored.max())
        if low < limits.min or high > limits.max:
            raise _cast(path, saved.dtype, wanted.dtype, f"numbers from {low} to {high}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = stored.astype(dtype)
    if not jnp.issubdtype(dtype, jnp.integer):
        _check_range(stored, cast, saved, wanted, path)
    return cast


def _check_range(stored: Any, cast: Any, saved: Leaf, wanted: Leaf, path: str) -> None:
    # Some small dtypes have no infinity, and say NaN instead.
    finite: Any = jnp.isfinite if isinstance(stored, jax.Array) else _is_finite
    lost = finite(stored) & ~finite(cast)
    if bool(lost.any()):
        raise _cast(path, saved.dtype, wanted.dtype, f"{int(lost.sum())} finite numbers beyond its range")


def _is_finite(array: np.ndarray) -> np.ndarray:
    # NumPy knows nothing of the small dtypes of ml_dtypes, which all fit into 32 bits.
    known = array.dtype.kind in "fc" and array.dtype.isbuiltin == 1
    return np.isfinite(array if known else array.astype(np.float32))


def _cast(path: str, saved: str, wanted: str, got: str) -> CastError:
    return CastError(
        f"Numbers of {saved} do not fit into {wanted}.",
        path=path,
        expected=f"numbers that {wanted} can hold",
        got=got,
        fix="Cast to a wider dtype; or restore without a cast, and clip the numbers yourself.",
    )
