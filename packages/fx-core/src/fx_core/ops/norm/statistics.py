"""Means and variances, over local axes and over devices."""

# JAX's own signatures are partly unknown to the checker:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["moments", "running_average"]


def moments(
    x: jax.Array,
    axes: Sequence[int],
    *,
    dtype: Any = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    use_mean: bool = True,
    use_fast_variance: bool = True,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
) -> tuple[jax.Array | None, jax.Array]:
    """Take mean and variance over some axes.

    Args:
      x: any shape.
      axes: axes to reduce.
      dtype: to compute in; that of ``x`` if None.
      axis_name: a mapped axis (or several) to average over, too.
      axis_index_groups: groups of devices along that axis that average among themselves.
      use_mean: False takes the mean for zero: the variance is the mean of squares.
      use_fast_variance: compute ``E[x²] - E[x]²`` in one pass, which is faster and less exact than ``E[(x - E[x])²]``.
      mask: True where a value counts; broadcasts to ``x``.
      force_float32_reductions: reduce at least in float32, whatever ``dtype`` says.

    Returns:
      Mean (None without ``use_mean``) and variance, with ``axes`` removed.

    >>> import jax.numpy as jnp
    >>> moments(jnp.array([1.0, 3.0]), (0,))
    (Array(2., dtype=float32), Array(1., dtype=float32))
    """
    dtype = jnp.result_type(x) if dtype is None else dtype
    if force_float32_reductions:
        dtype = jnp.promote_types(dtype, jnp.float32)
    x = jnp.asarray(x, dtype)
    axes = tuple(axes)

    def average(*values: jax.Array) -> tuple[jax.Array, ...]:
        local = tuple(value.mean(axes, where=mask) for value in values)
        if axis_name is None:
            return local
        return lax.pmean(local, axis_name, axis_index_groups=axis_index_groups)

    if not use_mean:
        return None, average(_square(x))[0]
    if use_fast_variance:
        mean, mean_square = average(x, _square(x))
        # Cancellation can leave a small negative number, and rsqrt would make NaN of it.
        return mean, jnp.maximum(0.0, mean_square - _square(mean))
    (mean,) = average(x)
    return mean, average(_square(x - lax.expand_dims(mean, axes)))[0]


def running_average(old: jax.Array, new: jax.Array, momentum: float) -> jax.Array:
    """Move an average a little towards a new value.

    >>> import jax.numpy as jnp
    >>> running_average(jnp.zeros(1), jnp.ones(1), 0.75)
    Array([0.25], dtype=float32)
    """
    return momentum * old + (1 - momentum) * new


def _square(x: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(x):
        return lax.square(x.real) + lax.square(x.imag)
    return lax.square(x)
