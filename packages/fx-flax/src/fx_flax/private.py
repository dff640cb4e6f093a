"""Functions that Flax has for itself but published libraries use, with the signatures that those call."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors import ArgumentError
from fx_core.ops import norm
from fx_core.ops.conv.plan import normalize_padding
from fx_core.ops.dtypes import canonicalize_dtype
from fx_core.typing import Dtype, LaxPadding, PaddingLike
from jax import lax

__all__ = [
    "ArrayRepresentation",
    "canonicalize_axes",
    "canonicalize_padding",
    "compute_stats",
    "conv_dimension_numbers",
    "first_from",
    "normalize",
]


@dataclasses.dataclass(frozen=True)
class ArrayRepresentation:
    """What stands for an array in Flax's tables; libraries ask whether a value is one, in the tables of fx none is.

    Attributes:
      shape: of the array.
      dtype: of the array.
    """

    shape: tuple[int, ...]
    dtype: Any


def canonicalize_axes(rank: int, axes: int | Iterable[int]) -> tuple[int, ...]:
    """Returns axes as numbers from 0, each once.

    >>> canonicalize_axes(3, (-1, 2, 0))
    (0, 2)
    """
    several = axes if isinstance(axes, Iterable) else (axes,)
    return tuple(sorted({axis % rank for axis in several}))


def canonicalize_padding(padding: PaddingLike, rank: int) -> LaxPadding:
    """Returns the padding of a convolution as `jax.lax` takes it: names stay, all else becomes a pair per dimension.

    Raises:
      ArgumentError: not a name, an integer, or an integer or pair for each of ``rank`` dimensions.

    >>> canonicalize_padding(1, 2), canonicalize_padding((1, (0, 2)), 2), canonicalize_padding("SAME", 2)
    ([(1, 1), (1, 1)], [(1, 1), (0, 2)], 'SAME')
    """
    pairs = padding if isinstance(padding, str) else normalize_padding(padding, rank, frozenset())
    return pairs if isinstance(pairs, str) else list(pairs)


def compute_stats(
    x: jax.Array,
    axes: int | Sequence[int],
    dtype: Dtype | None,
    axis_name: str | None = None,
    axis_index_groups: Any = None,
    use_mean: bool = True,
    use_fast_variance: bool = True,
    mask: jax.Array | None = None,
    force_float32_reductions: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Returns mean and variance over axes; with ``use_mean=False`` zeros and the mean of squares.

    The arguments are those of `fx_core.ops.norm.moments`.

    >>> mean, var = compute_stats(jnp.array([[1.0, 3.0]]), -1, None)
    >>> mean.tolist(), var.tolist()
    ([2.0], [1.0])
    """
    options: dict[str, Any] = {
        "dtype": dtype,
        "axis_name": axis_name,
        "axis_index_groups": axis_index_groups,
        "mask": mask,
        "force_float32_reductions": force_float32_reductions,
    }
    axes = canonicalize_axes(jnp.ndim(x), axes)
    if use_mean:
        return norm.moments(x, axes, use_fast_variance=use_fast_variance, **options)
    squares = norm.mean_square(x, axes, **options)
    return jnp.zeros_like(squares), squares


def conv_dimension_numbers(input_shape: Sequence[int]) -> lax.ConvDimensionNumbers:
    """Returns which axes of a convolution are the batch, the features and space.

    Args:
      input_shape: ``(batch, *spatial, features)``.

    >>> conv_dimension_numbers((2, 8, 8, 3)).rhs_spec
    (3, 2, 0, 1)
    """
    spatial = range(1, len(input_shape) - 1)
    around = (0, len(input_shape) - 1, *spatial)
    kernel = (len(input_shape) - 1, len(input_shape) - 2, *(axis - 1 for axis in spatial))
    return lax.ConvDimensionNumbers(around, kernel, around)


def first_from(*args: Any, error_msg: str) -> Any:
    """Returns the first argument that is not None: what a call is given before what a module has.

    Raises:
      ArgumentError: all are None; the text is ``error_msg``.

    >>> first_from(None, False, True, error_msg="say deterministic=True or False")
    False
    """
    for arg in args:
        if arg is not None:
            return arg
    raise ArgumentError(error_msg, expected="a value", got="None everywhere", fix="give the call or the module a value")


def normalize(
    mdl: Any,
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    reduction_axes: int | Sequence[int],
    feature_axes: int | Sequence[int],
    dtype: Dtype | None,
    param_dtype: Dtype,
    epsilon: float,
    use_bias: bool,
    use_scale: bool,
    bias_init: Any,
    scale_init: Any,
    force_float32_reductions: bool = True,
) -> jax.Array:
    """Returns an array normalized with given statistics, scaled and shifted by parameters of a module.

    Args:
      mdl: the module, which gets the parameters ``scale`` and ``bias``.
      x: any shape.
      mean: without ``reduction_axes``, as is ``var``.
      var: the variance.
      reduction_axes: the axes that the statistics were taken over.
      feature_axes: the axes of the parameters.
      dtype: of the result; that of the arguments together if None.
      param_dtype: dtype of the parameters.
      epsilon: added to the variance.
      use_bias: whether there is a bias.
      use_scale: whether there is a scale.
      bias_init: initializer of the bias.
      scale_init: initializer of the scale.
      force_float32_reductions: False computes with parameters of ``param_dtype`` whatever type they are stored in.
    """
    features = canonicalize_axes(x.ndim, feature_axes)
    shape = [x.shape[axis] for axis in features]
    broadcast = [size if axis in features else 1 for axis, size in enumerate(x.shape)]

    def parameter(name: str, init: Any) -> jax.Array:
        value = jnp.reshape(mdl.param(name, init, shape, param_dtype), broadcast)
        return value if force_float32_reductions else value.astype(param_dtype)

    reduced = canonicalize_axes(x.ndim, reduction_axes)
    factor, parameters = lax.rsqrt(jnp.expand_dims(var, reduced) + epsilon), []
    if use_scale:
        parameters.append(parameter("scale", scale_init))
        factor = factor * parameters[-1]
    y = (x - jnp.expand_dims(mean, reduced)) * factor
    if use_bias:
        parameters.append(parameter("bias", bias_init))
        y = y + parameters[-1]
    return jnp.asarray(y, canonicalize_dtype(x, *parameters, dtype=dtype))
