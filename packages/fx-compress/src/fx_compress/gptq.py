"""Rounding that lets later inputs make up for the errors of earlier ones."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fx_compress.array import QuantizedArray
from fx_compress.blocks import combine
from fx_compress.calibration import gram_of
from fx_compress.formats import format_named
from fx_compress.parameters import Parameter
from fx_compress.schemes import Scheme, checked_axes

__all__ = ["gptq"]

# Of the mean of the diagonal, as in the paper: keeps directions that no input had from blowing up.
_DAMPING = 0.01


def gptq(
    scheme: Scheme,
    parameter: Parameter,
    axes: tuple[int, ...],
    stacked: int,
    statistics: Any,
    input_scale: jax.Array | None,
) -> QuantizedArray:
    """Quantizes a linear map so that its outputs on the calibration inputs change little.

    Frantar et al., *GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers*, 2023. Scales
    are those of rounding to nearest. Zeros stay zeros, so that pruned weights stay pruned.

    Args:
      scheme: format and scales.
      parameter: the weight.
      axes: those that are contracted, counted from the front.
      stacked: number of leading axes of stacked layers.
      statistics: inputs by stacked layer, with their outer products.
      input_scale: handed on to the result.

    Raises:
      CalibrationError: the inputs do not fit the weight.
    """
    array = jnp.asarray(parameter.value)
    axes = checked_axes(scheme, array, axes, parameter.path)
    scales = scheme.scales(array, axes)
    ones = jnp.ones(array.shape, jnp.float32)
    scale = combine(ones, scales.scale, jnp.multiply)
    zero = jnp.zeros_like(ones) if scales.zero is None else combine(ones, scales.zero, jnp.multiply)
    lead = array.shape[:stacked]
    free = [axis for axis in range(stacked, array.ndim) if axis not in axes]
    order = (*range(stacked), *axes, *free)
    rows = math.prod(array.shape[axis] for axis in axes)
    matrices = [lax.transpose(x.astype(jnp.float32), order).reshape(*lead, rows, -1) for x in (array, scale, zero)]
    codes = [
        _one(scheme.format, *(matrix[place] for matrix in matrices), _factor(parameter, statistics, place, rows))
        for place in np.ndindex(*lead)
    ]
    moved = jnp.stack(codes).reshape([array.shape[axis] for axis in order])
    back = lax.transpose(moved, tuple(int(axis) for axis in np.argsort(order)))
    return scheme.finish(array, scales, back, input_scale)


def _factor(parameter: Parameter, statistics: Any, place: tuple[int, ...], rows: int) -> jax.Array:
    """The upper Cholesky factor of the inverse of the inputs' outer products."""
    gram = gram_of(parameter, statistics.get(place), rows)
    damped = gram + np.eye(rows) * (_DAMPING * float(np.trace(gram)) / rows or 1.0)
    inverse = np.linalg.inv(damped)
    return jnp.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T, jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def _one(name: str, weight: jax.Array, scale: jax.Array, zero: jax.Array, factor: jax.Array) -> jax.Array:
    kind, later, pruned = format_named(name), jnp.arange(len(weight)), weight == 0

    def step(i: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        weight, codes = state
        code = kind.encode(jnp.where(pruned[i], 0.0, weight[i] / scale[i]) + zero[i])
        got = (kind.numbers(code, jnp.float32) - zero[i]) * scale[i]
        error = (weight[i] - got) / factor[i, i]
        return weight - jnp.where(later > i, factor[i], 0.0)[:, None] * error[None, :], codes.at[i].set(code)

    start = jnp.zeros(weight.shape, kind.encode(jnp.zeros(1)).dtype)
    return lax.fori_loop(0, len(weight), step, (weight, start))[1]
