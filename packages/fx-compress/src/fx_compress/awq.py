"""Rounding that spares inputs that matter: weights are scaled by the size of their inputs before they are rounded."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from fx_compress.array import QuantizedArray
from fx_compress.calibration import gram_of
from fx_compress.parameters import Parameter
from fx_compress.schemes import Scheme, checked_axes

__all__ = ["awq"]

# Powers of the inputs' size that are tried; 0 is rounding to nearest.
_POWERS = np.linspace(0.0, 1.0, 21)
# Of the mean square of the inputs: weights of inputs that calibration never saw are not rounded to nothing.
_DAMPING = 0.01


def awq(scheme: Scheme, parameter: Parameter, axes: tuple[int, ...], stacked: int, statistics: Any) -> QuantizedArray:
    """Quantizes a linear map after its rows were scaled by powers of the mean size of their inputs.

    Lin et al., *AWQ: Activation-aware Weight Quantization*, 2024. The power is the one whose outputs on the calibration
    inputs differ least. Inputs are divided by the same scale when the weight is multiplied with them.

    Args:
      scheme: format and scales.
      parameter: the weight.
      axes: those that are contracted, counted from the front.
      stacked: number of leading axes of stacked layers.
      statistics: inputs by stacked layer, with their outer products.

    Raises:
      CalibrationError: the inputs do not fit the weight.
    """
    array = jnp.asarray(parameter.value)
    axes = checked_axes(scheme, array, axes, parameter.path)
    lead = array.shape[:stacked]
    rows = math.prod(array.shape[axis] for axis in axes)
    grams = np.stack([gram_of(parameter, statistics.get(place), rows) for place in np.ndindex(*lead)])
    squares = np.diagonal(grams, axis1=1, axis2=2)
    damping = np.maximum(_DAMPING * squares.mean(-1), 1e-12)
    grams = grams + damping[:, None, None] * np.eye(rows)
    sizes = np.sqrt(squares + damping[:, None])
    sizes = sizes / np.exp(np.log(sizes).mean(-1, keepdims=True))
    free = [axis for axis in range(stacked, array.ndim) if axis not in axes]
    order = (*range(stacked), *axes, *free)
    laid = [array.shape[i] if i < stacked or i in axes else 1 for i in range(array.ndim)]

    def rounded(powers: np.ndarray) -> tuple[QuantizedArray, np.ndarray]:
        factor = jnp.asarray((sizes ** powers[:, None]).reshape(laid), jnp.float32)
        made = scheme.quantize((array * factor).astype(array.dtype), axes, path=parameter.path)
        made = dataclasses.replace(made, shrink=1 / factor)
        wrong = made.astype(jnp.float32).materialize() - array.astype(jnp.float32)
        matrix = np.asarray(lax.transpose(wrong, order), np.float64).reshape(len(grams), rows, -1)
        return made, np.einsum("lio,lij,ljo->l", matrix, grams, matrix)

    errors = np.stack([rounded(np.full(len(grams), power))[1] for power in _POWERS])
    return rounded(_POWERS[errors.argmin(0)])[0]
