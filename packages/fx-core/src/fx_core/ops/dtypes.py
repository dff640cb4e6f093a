"""Which dtype an operation computes in.

The rule of all layers: with ``dtype=None`` inputs and parameters promote to their common dtype, which is at least
float32's kind (integers become float32); with a ``dtype`` everything is cast to it. Parameters are stored in
``param_dtype``, whatever the computation uses.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fx_core.array_node import ArrayNode
from fx_core.errors.kinds import DtypeError
from fx_core.typing import Dtype

__all__ = ["Dtype", "canonicalize_dtype", "promote_dtype"]


def canonicalize_dtype(*args: Any, dtype: Dtype | None = None, inexact: bool = True) -> Dtype:
    """Decides in which dtype to compute with some arrays.

    Args:
      *args: arrays, scalars, or None (left out).
      dtype: the requested dtype (default: inferred from the arguments).
      inexact: whether integers are to be replaced by at least float32.

    Returns:
      ``dtype`` if given, else the promoted dtype of the arguments.

    Raises:
      DtypeError: ``dtype`` is an integer type although ``inexact``.

    >>> import jax.numpy as jnp
    >>> canonicalize_dtype(jnp.ones(2, jnp.int32), None)
    dtype('float32')
    """
    if dtype is None:
        dtype = jnp.result_type(*[_promotes_as(arg) for arg in args if arg is not None])
        if inexact and not jnp.issubdtype(dtype, jnp.inexact):
            dtype = jnp.promote_types(jnp.float32, dtype)
    elif inexact and not jnp.issubdtype(dtype, jnp.inexact):
        raise DtypeError(
            "The computation dtype must be inexact.",
            expected="a floating point or complex dtype",
            got=dtype,
            fix="pass a floating point dtype, or dtype=None to follow the inputs",
        )
    return dtype


def promote_dtype(*args: Any, dtype: Dtype | None = None, inexact: bool = True) -> list[Any]:
    """Brings arrays to the dtype they are to be computed in.

    Args:
      *args: arrays, scalars, array-like parameters, or None (stays None).
      dtype: the requested dtype (default: inferred from the arguments).
      inexact: whether integers are to be replaced by at least float32.

    Returns:
      The arguments as arrays, or array-like parameters, of one dtype.

    Raises:
      DtypeError: ``dtype`` is an integer type although ``inexact``.

    >>> import jax.numpy as jnp
    >>> [a.dtype for a in promote_dtype(jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float32))]
    [dtype('float32'), dtype('float32')]
    """
    if _already(args, dtype, inexact):
        return list(args)
    dtype = canonicalize_dtype(*args, dtype=dtype, inexact=inexact)
    return [None if arg is None else _cast(arg, dtype) for arg in args]


def _promotes_as(arg: Any) -> Any:
    # An object with ``__jax_array__`` would be made an array only to look at its dtype.
    return arg.dtype if isinstance(arg, ArrayNode) else arg


def _cast(arg: Any, dtype: Dtype) -> Any:
    if isinstance(arg, ArrayNode):
        return arg if arg.dtype == dtype else arg.astype(dtype)
    return jnp.asarray(arg, dtype)


def _already(args: tuple[Any, ...], dtype: Dtype, inexact: bool) -> bool:
    # Called by every layer: nearly always all arrays have the dtype already, and JAX's promotion costs ten times this.
    common = None if dtype is None else jnp.dtype(dtype)
    for arg in args:
        if arg is None:
            continue
        if not isinstance(arg, jax.Array) or arg.weak_type:  # a weak dtype would spread to the result
            return False
        if common is None:
            common = arg.dtype
        elif arg.dtype != common:
            return False
    return common is not None and (not inexact or jnp.issubdtype(common, jnp.inexact))
