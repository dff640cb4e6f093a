"""Means and variances, over local axes and over devices."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.errors.kinds import ShapeMismatchError
from fx_core.ops.recorded import recorded_once
from fx_core.typing import Dtype

__all__ = ["mean_square", "moments", "running_average"]


def moments(
    x: jax.Array,
    axes: Sequence[int],
    *,
    dtype: Dtype | None = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    use_fast_variance: bool = True,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
    local: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Takes mean and variance over some axes.

    Args:
      x: any shape.
      axes: axes to reduce.
      dtype: dtype of the computation; that of ``x`` if None.
      axis_name: a mapped axis (or several) to average over, too.
      axis_index_groups: groups of devices along that axis that average among themselves.
      use_fast_variance: compute ``E[x²] - E[x]²`` in one pass, which is faster than ``E[(x - E[x])²]``, and wrong where
        the mean is thousands of times the deviation; see ``local``.
      mask: True, or a number other than 0, where a value counts; broadcasts to ``x``. Over a mapped axis the values of
        all devices weigh the same, however many each of them counts.
      force_float32_reductions: reduce at least in float32, whatever ``dtype`` says.
      local: the reduced axes lie on one device, as those of one example do. The fast variance is then exact for any
        mean, at no cost: it subtracts one of the values first.

    Returns:
      Mean and variance, with ``axes`` removed; NaN where no value counts, on any device.

    Raises:
      ShapeMismatchError: the mask does not broadcast to ``x``.

    >>> import jax.numpy as jnp
    >>> moments(jnp.array([1.0, 3.0]), (0,))
    (Array(2., dtype=float32), Array(1., dtype=float32))
    """
    options: dict[str, Any] = {
        "axes": tuple(axes),
        "dtype": dtype,
        "use_fast_variance": use_fast_variance,
        "force_float32_reductions": force_float32_reductions,
        "local": local,
    }
    if axis_name is None and mask is None:
        return recorded_once(_moments, (x,), options)
    return _moments(x, **options, axis_name=axis_name, axis_index_groups=axis_index_groups, mask=mask)


def _moments(
    x: jax.Array,
    *,
    axes: tuple[int, ...],
    dtype: Dtype,
    use_fast_variance: bool,
    force_float32_reductions: bool,
    local: bool,
    mask: jax.Array | None = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
) -> tuple[jax.Array, jax.Array]:
    x = _for_reduction(x, dtype, force_float32_reductions)
    mask = boolean_mask(mask, x)
    over: dict[str, Any] = {"axes": axes, "mask": mask, "axis_name": axis_name, "axis_index_groups": axis_index_groups}
    if use_fast_variance:
        shift = _value_near_mean(x, axes, mask) if local and axis_name is None else None
        centered = x if shift is None else lax.sub(x, lax.broadcast_in_dim(shift, x.shape, range(x.ndim)))
        mean, square = _average(centered, _square(centered), **over)
        # Cancellation can leave a small negative number, and rsqrt would make NaN of it.
        var = jnp.maximum(0.0, lax.sub(square, _square(mean)))
        return (mean if shift is None else lax.add(mean, lax.squeeze(shift, axes))), var
    (mean,) = _average(x, **over)
    return mean, _average(_square(x - lax.expand_dims(mean, axes)), **over)[0]


def mean_square(
    x: jax.Array,
    axes: Sequence[int],
    *,
    dtype: Dtype | None = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Any = None,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
) -> jax.Array:
    """Takes the mean of squares over some axes. The arguments are those of `moments`.

    >>> import jax.numpy as jnp
    >>> mean_square(jnp.array([1.0, 3.0]), (0,))
    Array(5., dtype=float32)
    """
    x = _for_reduction(x, dtype, force_float32_reductions)
    mask = boolean_mask(mask, x)
    over: dict[str, Any] = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    return _average(_square(x), axes=tuple(axes), mask=mask, **over)[0]


def running_average(old: jax.Array, new: jax.Array, momentum: float) -> jax.Array:
    """Moves an average a little towards a new value.

    >>> import jax.numpy as jnp
    >>> running_average(jnp.zeros(1), jnp.ones(1), 0.75)
    Array([0.25], dtype=float32)
    """
    return momentum * old + (1 - momentum) * new


def boolean_mask(mask: Any, x: jax.Array) -> jax.Array | None:
    """Returns a mask as booleans: what is not 0 counts. None stays None.

    Raises:
      ShapeMismatchError: the mask does not broadcast to ``x``.
    """
    if mask is None:
        return None
    shape = jnp.shape(mask)
    if len(shape) > x.ndim or any(a not in (1, b) for a, b in zip(shape[::-1], x.shape[::-1])):
        raise ShapeMismatchError(
            "The mask does not broadcast to the input of the normalization.",
            expected=f"a shape that broadcasts to {tuple(x.shape)}",
            got=tuple(shape),
            fix="give the mask one entry per value, or axes of size 1 (mask[:, None])",
        )
    return jnp.asarray(mask) != 0


def _value_near_mean(x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None) -> jax.Array | None:
    """Take the median of three of the values that are reduced, which no single outlier can be.

    Mean and variance do not depend on what is subtracted first, so neither do gradients of any order.
    """
    sharding = getattr(jax.typeof(x), "sharding", None)
    spread = any(sharding.spec[axis] is not None for axis in axes) if sharding is not None else False
    if not axes or jnp.iscomplexobj(x) or 0 in x.shape or spread:  # JAX takes no single value of a sharded axis
        return None
    size = x.shape[axes[-1]]

    def at(position: int, instead: Any) -> jax.Array:
        starts = [0] * x.ndim
        starts[axes[-1]] = position
        limits = [start + 1 if axis in axes else n for axis, (start, n) in enumerate(zip(starts, x.shape))]
        value = lax.slice(x, starts, limits)
        if mask is None:
            return value
        return jnp.where(lax.slice(jnp.broadcast_to(mask, x.shape), starts, limits), value, instead)

    first = at(0, jnp.zeros((), x.dtype))
    middle, last = at(size // 2, first), at(size - 1, first)
    # Operations of `lax`, here and above: jitted ones of `jnp` take three times as long to trace.
    median = lax.clamp(lax.min(first, middle), last, lax.max(first, middle))
    return lax.stop_gradient(median)


def _square(x: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(x):
        return lax.square(x.real) + lax.square(x.imag)
    return lax.square(x)


def _for_reduction(x: jax.Array, dtype: Dtype, force_float32: bool) -> jax.Array:
    dtype = jnp.result_type(x) if dtype is None else dtype
    return jnp.asarray(x, jnp.promote_types(dtype, jnp.float32) if force_float32 else dtype)


def _average(
    *values: jax.Array, axes: tuple[int, ...], mask: Any, axis_name: Any, axis_index_groups: Any
) -> tuple[jax.Array, ...]:
    """Take the means of some arrays, over axes and devices."""
    if axis_name is None:
        return tuple([value.mean(axes, where=mask) for value in values])
    groups = {"axis_index_groups": axis_index_groups}
    if mask is None:
        return lax.pmean(tuple([value.mean(axes) for value in values]), axis_name, **groups)
    # Devices may count differently many values, one of them none: a mean of their means would be another number.
    count = jnp.broadcast_to(mask, values[0].shape).sum(axes, dtype=jnp.float32)
    sums, count = lax.psum(([value.sum(axes, where=mask) for value in values], count), axis_name, **groups)
    return tuple([(total / count).astype(total.dtype) for total in sums])
