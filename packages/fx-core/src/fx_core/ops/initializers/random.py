"""Initializers that draw each element independently.

They give the numbers of their namesakes in `jax.nn.initializers`, to the bit (see `chunked`), without compiling
anything for a shape. Inside of transforms, with keys of other kinds, with shardings and for other dtypes than float32,
bfloat16 and float16 they are those functions.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fx_core.compat.jax import DynamicJaxprTracer
from fx_core.made import made_by_arguments
from fx_core.ops.initializers.chunked import Distribution, chunkable, draw, plain_shape, settled, wanted_dtype
from fx_core.ops.params import Initializer
from fx_core.threefry import simply_traced
from fx_core.typing import Dtype

__all__ = [
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
]

Axes = int | Sequence[int]
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Scale = Callable[[tuple[int, ...], Any], Any]

# The standard deviation of the standard normal distribution cut off at -2 and 2.
_TRUNCATED_STDDEV = 0.87962566103423978


def _numbers(*values: Any) -> bool:
    """Whether all are Python numbers, which have no dtype of their own and no trace."""
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _chunked(
    factory: Callable[..., Any],
    arguments: tuple[Any, ...],
    own_dtype: Dtype,
    distribution: Distribution,
    scale_of: Scale,
    lower: float = -2.0,
    upper: float = 2.0,
) -> Initializer:
    """The initializer that JAX's factory makes, drawn in chunks where that gives the same."""
    plain = _recorded_once(factory, arguments, own_dtype)

    def init(key: Any, shape: int | Sequence[int], dtype: Dtype = own_dtype, out_sharding: Any = None) -> jax.Array:
        if isinstance(shape, int):  # JAX takes it as one axis
            shape = (shape,)
        if out_sharding is None and settled() and chunkable(key):
            sizes, wanted = plain_shape(shape, distribution), wanted_dtype(dtype)
            scale = scale_of(sizes, wanted) if sizes is not None and wanted is not None else None
            if sizes is not None and wanted is not None and scale is not None:
                return draw(key, sizes, wanted, distribution, scale, lower, upper)
        return plain(key, shape, dtype, out_sharding)

    return init


def _recorded_once(factory: Callable[..., Any], arguments: tuple[Any, ...], own_dtype: Dtype) -> Initializer:
    """The initializer that JAX's factory makes; where operations are recorded, they are kept and recorded again for all
    parameters of a kind, in a fifth of the time.
    """
    plain = factory(*arguments)

    def init(key: Any, shape: int | Sequence[int], dtype: Dtype = own_dtype, out_sharding: Any = None) -> jax.Array:
        if out_sharding is not None:
            return plain(key, shape, dtype, out_sharding)
        # Elsewhere in a transform, operations may be computed one by one, and rounded otherwise than together.
        if isinstance(key, DynamicJaxprTracer) and not isinstance(shape, int) and simply_traced():
            call = (factory, arguments, tuple(shape), dtype)
            if _hashable(call):
                # What a raw key means is a setting that JAX's cache of traces does not know.
                key = key if _typed(key) else jax.random.wrap_key_data(key)
                return _drawn(key, call)
        return plain(key, shape, dtype)

    return init


@functools.partial(jax.jit, static_argnums=1, inline=True)
def _drawn(key: jax.Array, call: tuple[Any, ...]) -> jax.Array:
    factory, arguments, shape, dtype = call
    return factory(*arguments)(key, shape, dtype)


def _typed(key: jax.Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _hashable(call: tuple[Any, ...]) -> bool:
    try:
        hash(call)
    except TypeError:  # axes may be lists
        return False
    return True


def _constant_scale(scale: float) -> Scale:
    return lambda _, dtype: np.asarray(scale, dtype)[()]


@made_by_arguments
def normal(stddev: Any = 1e-2, dtype: Dtype | None = None) -> Initializer:
    """Returns the initializer that samples a normal distribution around 0; as `jax.nn.initializers.normal`.

    Args:
      stddev: its standard deviation.
      dtype: the dtype if the call gives none.

    >>> normal(5.0)(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    if not _numbers(stddev):
        return jax.nn.initializers.normal(stddev, dtype)
    return _chunked(jax.nn.initializers.normal, (stddev, dtype), dtype, "normal", _constant_scale(stddev))


@made_by_arguments
def truncated_normal(
    stddev: Any = 1e-2, dtype: Dtype | None = None, lower: Any = -2.0, upper: Any = 2.0
) -> Initializer:
    """Returns the initializer that samples a normal distribution cut off at both ends.

    As `jax.nn.initializers.truncated_normal`.

    Args:
      stddev: the standard deviation before cutting off.
      dtype: the dtype if the call gives none.
      lower: where to cut off, in standard deviations.
      upper: the same at the other end.

    >>> bool((abs(truncated_normal(1.0)(jax.random.key(0), (100,))) < 2).all())
    True
    """
    if not _numbers(stddev, lower, upper):
        return jax.nn.initializers.truncated_normal(stddev, dtype, lower, upper)
    factory = jax.nn.initializers.truncated_normal
    scale_of = _constant_scale(stddev)
    return _chunked(factory, (stddev, dtype, lower, upper), dtype, "truncated_normal", scale_of, lower, upper)


@made_by_arguments
def uniform(scale: Any = 1e-2, dtype: Dtype | None = None) -> Initializer:
    """Returns the initializer that draws uniformly from 0 to ``scale``; as `jax.nn.initializers.uniform`.

    Args:
      scale: the upper end, which is not reached.
      dtype: the dtype if the call gives none.

    >>> uniform(3.0)(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    if not _numbers(scale):
        return jax.nn.initializers.uniform(scale, dtype)
    return _chunked(jax.nn.initializers.uniform, (scale, dtype), dtype, "uniform", _constant_scale(scale), 0.0, 1.0)


@made_by_arguments
def variance_scaling(
    scale: Any,
    mode: Mode,
    distribution: Distribution,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Dtype | None = None,
) -> Initializer:
    """Returns the initializer whose variance is ``scale`` divided by the fan; as
    `jax.nn.initializers.variance_scaling`.

    Args:
      scale: a positive number.
      mode: which fan: ``"fan_in"``, ``"fan_out"``, their average ``"fan_avg"``, or their geometric average
        ``"fan_geo_avg"``.
      distribution: ``"truncated_normal"`` (at two standard deviations), ``"normal"`` or ``"uniform"``.
      in_axis: the axis or axes of inputs; those neither of inputs, outputs nor batches are a receptive field.
      out_axis: the axis or axes of outputs.
      batch_axis: axes to leave out of the fans.
      dtype: the dtype if the call gives none.

    Returns:
      The initializer, which raises ValueError for a mode or a distribution that does not exist and for a shape without
      the axes.

    >>> variance_scaling(1.0, "fan_avg", "uniform")(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    factory: Callable[..., Any] = jax.nn.initializers.variance_scaling
    arguments = (scale, mode, distribution, in_axis, out_axis, batch_axis)
    if not _numbers(scale) or distribution not in ("truncated_normal", "normal", "uniform"):
        return factory(*arguments, dtype)

    def scale_of(shape: tuple[int, ...], dtype: Dtype) -> Any:
        # Each step is rounded as in JAX: the division in double precision, everything after it in the dtype.
        try:
            variance = np.asarray(scale / _fan(mode, shape, in_axis, out_axis, batch_axis), dtype)[()]
        except (IndexError, TypeError, ValueError, KeyError):
            return None
        if not variance > 0:
            return None
        if distribution == "truncated_normal":
            return np.sqrt(variance) / np.asarray(_TRUNCATED_STDDEV, dtype)[()]
        return np.sqrt(np.asarray(3, dtype)[()] * variance) if distribution == "uniform" else np.sqrt(variance)

    bounds = (-1.0, 1.0) if distribution == "uniform" else (-2.0, 2.0)
    return _chunked(factory, (*arguments, dtype), dtype, distribution, scale_of, *bounds)


def _fan(mode: str, shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> float:
    ins, outs, batch = (_size(shape, axes) for axes in (in_axis, out_axis, batch_axis))
    if batch != 1 and math.prod(shape) % (ins * outs * batch):
        raise ValueError("axes overlap, and versions of JAX divide in different order")
    field = math.prod(shape) / (ins * outs * batch)
    fan_in, fan_out = ins * field, outs * field
    return {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": (fan_in * fan_out) ** 0.5,
    }[mode]


def _size(shape: tuple[int, ...], axes: Axes) -> int:
    return shape[axes] if isinstance(axes, int) else math.prod([shape[axis] for axis in axes])


@made_by_arguments
def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Dtype | None = None) -> Initializer:
    """Returns the initializer that draws orthogonal matrices; as `jax.nn.initializers.orthogonal`.

    Args:
      scale: a factor for the result.
      column_axis: the axis of the columns; the others are those of one long row.
      dtype: the dtype if the call gives none.

    >>> orthogonal()(jax.random.key(0), (2, 2)).shape
    (2, 2)
    """
    return _recorded_once(jax.nn.initializers.orthogonal, (scale, column_axis, dtype), dtype)


@made_by_arguments
def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Dtype | None = None) -> Initializer:
    """Returns the initializer of convolutions that keep distances; as `jax.nn.initializers.delta_orthogonal`.

    Args:
      scale: a factor for the result.
      column_axis: the axis of the columns.
      dtype: the dtype if the call gives none.

    >>> delta_orthogonal()(jax.random.key(0), (3, 2, 2)).shape
    (3, 2, 2)
    """
    return _recorded_once(jax.nn.initializers.delta_orthogonal, (scale, column_axis, dtype), dtype)


def glorot_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Dtype | None = None
) -> Initializer:
    """`variance_scaling` of 1 by the average fan, uniform (Glorot and Bengio, 2010)."""
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


def glorot_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Dtype | None = None
) -> Initializer:
    """`variance_scaling` of 1 by the average fan, truncated normal (Glorot and Bengio, 2010)."""
    return variance_scaling(1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def lecun_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Dtype | None = None
) -> Initializer:
    """`variance_scaling` of 1 by the fan of inputs, uniform (LeCun et al., Efficient BackProp, 1998)."""
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Dtype | None = None
) -> Initializer:
    """`variance_scaling` of 1 by the fan of inputs, truncated normal (LeCun et al., Efficient BackProp, 1998)."""
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Dtype | None = None
) -> Initializer:
    """`variance_scaling` of 2 by the fan of inputs, uniform (He et al., 2015: Delving Deep into Rectifiers)."""
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def he_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Dtype | None = None
) -> Initializer:
    """`variance_scaling` of 2 by the fan of inputs, truncated normal (He et al., 2015)."""
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


xavier_uniform = glorot_uniform
xavier_normal = glorot_normal
kaiming_uniform = he_uniform
kaiming_normal = he_normal
