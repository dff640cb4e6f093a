"""Means and variances, over local axes and over devices."""

# JAX's own signatures are partly unknown to the checker:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.errors.ops import NormMaskShapeError

__all__ = ["mean_square", "moments", "running_average"]


def moments(
    x: jax.Array,
    axes: Sequence[int],
    *,
    dtype: Any = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    use_fast_variance: bool = True,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Take mean and variance over some axes.

    Args:
      x: any shape.
      axes: axes to reduce.
      dtype: to compute in; that of ``x`` if None.
      axis_name: a mapped axis (or several) to average over, too.
      axis_index_groups: groups of devices along that axis that average among themselves.
      use_fast_variance: compute ``E[x²] - E[x]²`` in one pass, which is faster and less exact than ``E[(x - E[x])²]``.
      mask: True where a value counts; broadcasts to ``x``.
      force_float32_reductions: reduce at least in float32, whatever ``dtype`` says.

    Returns:
      Mean and variance, with ``axes`` removed.

    Raises:
      NormMaskShapeError: the mask does not broadcast to ``x``.

    >>> import jax.numpy as jnp
    >>> moments(jnp.array([1.0, 3.0]), (0,))
    (Array(2., dtype=float32), Array(1., dtype=float32))
    """
    axes = tuple(axes)
    x = _for_reduction(x, dtype, force_float32_reductions)
    check_mask(mask, x)
    average = _averager(axes, mask, axis_name, axis_index_groups)
    if use_fast_variance:
        mean, square = average(x, _square(x))
        # Cancellation can leave a small negative number, and rsqrt would make NaN of it.
        return mean, jnp.maximum(0.0, square - _square(mean))
    (mean,) = average(x)
    return mean, average(_square(x - lax.expand_dims(mean, axes)))[0]


def mean_square(
    x: jax.Array,
    axes: Sequence[int],
    *,
    dtype: Any = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
) -> jax.Array:
    """Take the mean of squares over some axes. The arguments are those of `moments`.

    >>> import jax.numpy as jnp
    >>> mean_square(jnp.array([1.0, 3.0]), (0,))
    Array(5., dtype=float32)
    """
    x = _for_reduction(x, dtype, force_float32_reductions)
    check_mask(mask, x)
    return _averager(tuple(axes), mask, axis_name, axis_index_groups)(_square(x))[0]


def running_average(old: jax.Array, new: jax.Array, momentum: float) -> jax.Array:
    """Move an average a little towards a new value.

    >>> import jax.numpy as jnp
    >>> running_average(jnp.zeros(1), jnp.ones(1), 0.75)
    Array([0.25], dtype=float32)
    """
    return momentum * old + (1 - momentum) * new


def check_mask(mask: jax.Array | None, x: jax.Array) -> None:
    """Make sure that a mask broadcasts to an array, or is None.

    Raises:
      NormMaskShapeError: it does not.
    """
    if mask is not None:
        shape = jnp.shape(mask)
        if len(shape) > x.ndim or any(a not in (1, b) for a, b in zip(shape[::-1], x.shape[::-1])):
            raise NormMaskShapeError(shape, x.shape)


def _square(x: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(x):
        return lax.square(x.real) + lax.square(x.imag)
    return lax.square(x)


def _for_reduction(x: jax.Array, dtype: Any, force_float32: bool) -> jax.Array:
    dtype = jnp.result_type(x) if dtype is None else dtype
    return jnp.asarray(x, jnp.promote_types(dtype, jnp.float32) if force_float32 else dtype)


def _averager(
    axes: tuple[int, ...], mask: Any, axis_name: Any, axis_index_groups: Any
) -> Callable[..., tuple[jax.Array, ...]]:
    def average(*values: jax.Array) -> tuple[jax.Array, ...]:
        local = tuple([value.mean(axes, where=mask) for value in values])
        if axis_name is None:
            return local
        return lax.pmean(local, axis_name, axis_index_groups=axis_index_groups)

    return average
