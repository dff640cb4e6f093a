"""Products of arrays in eight-bit floating point, with scales that follow the data.

Micikevicius et al., FP8 Formats for Deep Learning, 2022. An array is divided by a scale and rounded to eight bits; the
scale comes from the largest magnitudes of past steps (delayed scaling), which are known before the step begins. Scales
and histories are state: a step replaces them by their *gradients*, which are defined here to be the new values, as only
the backward pass knows the magnitudes of the output's gradient.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fx_core.errors.kinds import ArgumentError
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import ones, zeros
from fx_core.ops.params import ParamSpec
from fx_core.typing import Dtype, PrecisionLike

__all__ = [
    "OVERWRITE_WITH_GRADIENT",
    "Fp8Format",
    "Fp8State",
    "dequantize",
    "fp8_dot_general",
    "fp8_state",
    "next_history",
    "next_scale",
    "quantize",
]

OVERWRITE_WITH_GRADIENT = "_overwrite_with_gradient"
"""Collection of the state: a training step replaces its values by their gradients."""

DotDims = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]


class Fp8State(NamedTuple):
    """Scales, shape ``(1,)``, and past largest magnitudes, shape ``(length,)``, all in float32."""

    input_scale: Any
    input_amax_history: Any
    kernel_scale: Any
    kernel_amax_history: Any
    output_grad_scale: Any
    output_grad_amax_history: Any


def fp8_state(history_length: int) -> dict[str, ParamSpec]:
    """Returns the state of `fp8_dot_general`, by name.

    Args:
      history_length: number of past steps whose maxima a scale is computed from.

    Raises:
      ArgumentError: it is less than 1.

    >>> fp8_state(16)["input_amax_history"].shape
    (16,)
    """
    if history_length < 1:
        raise ArgumentError(
            "Scaling needs the largest magnitudes of past steps.",
            expected="amax_history_length of at least 1",
            got=history_length,
            fix="keep some steps: 1024 is the default, 16 is often enough",
        )
    scale, history = ParamSpec((1,), ones, ("one",)), ParamSpec((history_length,), zeros, ("history",))
    return {name: scale if name.endswith("scale") else history for name in Fp8State._fields}


@dataclasses.dataclass(frozen=True)
class Fp8Format:
    """Which eight-bit formats to use, and how.

    Attributes:
      forward: of both operands: more precision.
      backward: of the gradient: more range.
      direct: whether to multiply the eight-bit numbers themselves, for hardware that can, and to scale the product;
        otherwise numbers are rounded to eight bits, scaled back and multiplied in the dtype of the operands.
    """

    forward: Any = jnp.float8_e4m3fn
    backward: Any = jnp.float8_e5m2
    direct: bool = True


class _Quantized(NamedTuple):
    values: jax.Array
    scale: jax.Array


def next_scale(scale: jax.Array, history: jax.Array, dtype: Dtype) -> jax.Array:
    """Returns the scale with which the largest magnitude of the past steps becomes the largest number of a format.

    Args:
      scale: the last one, shape ``(1,)``: it stays where the history is all zeros, or not finite.
      history: largest magnitudes of past steps.
      dtype: the format.

    >>> import jax.numpy as jnp
    >>> next_scale(jnp.ones(1), jnp.array([0.0, 896.0]), jnp.float8_e4m3fn)
    Array([2.], dtype=float32)
    """
    amax = jnp.max(history)
    usable = (amax > 0.0) & jnp.isfinite(history).all()
    return 1.0 / jnp.where(usable, _largest(dtype) / amax, 1.0 / scale)


def next_history(x: jax.Array, history: jax.Array) -> jax.Array:
    """Takes the largest magnitude of an array into a history.

    The newest magnitude stands first and the one before it last; the oldest, in the second place, drops out.

    >>> import jax.numpy as jnp
    >>> next_history(jnp.array([1.0, -5.0]), jnp.array([1.0, 2.0, 3.0]))
    Array([5., 3., 1.], dtype=float32)
    """
    # A maximum may lose NaN, as it does on CPUs for some thousand numbers and more.
    amax = jnp.where(jnp.isnan(x).any(), jnp.nan, jnp.max(jnp.abs(x)))
    return jnp.roll(history, -1).at[0].set(amax.astype(history.dtype))


def quantize(x: jax.Array, scale: jax.Array, dtype: Dtype) -> jax.Array:
    """Divides by a scale and rounds to a format; what is too large becomes its largest number.

    >>> import jax.numpy as jnp
    >>> quantize(jnp.array([1.1, 1000.0]), jnp.array([2.0]), jnp.float8_e4m3fn).astype(float) * 2.0
    Array([  1.125, 896.   ], dtype=float32)
    """
    largest = _largest(dtype)
    return jnp.clip(x / _like(scale, x), -largest, largest).astype(dtype)


def dequantize(x: jax.Array, scale: jax.Array, dtype: Dtype) -> jax.Array:
    """Undoes `quantize`, up to rounding."""
    x = x.astype(dtype)
    return x * _like(scale, x)


def fp8_dot_general(
    lhs: jax.Array,
    rhs: jax.Array,
    dimension_numbers: DotDims,
    state: Fp8State,
    formats: Fp8Format = Fp8Format(),
    *,
    preferred_element_type: Dtype | None = None,
) -> jax.Array:
    """Multiplies two arrays in eight bits, as `jax.lax.dot_general` does in full precision.

    The gradient is computed in eight bits, too. With respect to ``state`` it is the state of the next step, whatever
    the loss: never add such gradients up or hand them to an optimizer.

    Args:
      lhs: the input, which is cast to the dtype of the kernel first.
      rhs: the kernel.
      dimension_numbers: see `jax.lax.dot_general`.
      state: scales and histories.
      formats: see `Fp8Format`.
      preferred_element_type: dtype to accumulate in and of the product, by default that of the kernel.

    Returns:
      The product.

    >>> import jax, jax.numpy as jnp
    >>> state = Fp8State(*[spec.init(None, spec.shape, jnp.float32) for spec in fp8_state(4).values()])
    >>> dims = (((1,), (0,)), ((), ()))
    >>> fp8_dot_general(jnp.full((1, 3), 1.1), jnp.ones((3, 1)), dims, state)
    Array([[3.375]], dtype=float32)
    >>> loss = lambda state: fp8_dot_general(jnp.full((1, 3), 1.5), jnp.ones((3, 1)), dims, state).sum()
    >>> jax.grad(loss)(state).input_amax_history
    Array([1.5, 0. , 0. , 0. ], dtype=float32)
    """
    (rhs,) = promote_dtype(rhs)
    lhs = jnp.asarray(lhs, rhs.dtype)
    (left, right), (left_batch, right_batch) = dimension_numbers
    dims = ((tuple(left), tuple(right)), (tuple(left_batch), tuple(right_batch)))
    dtype = jnp.dtype(preferred_element_type or rhs.dtype)
    return _dot(dims, formats, dtype, lhs, rhs, state)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _dot(dims: DotDims, formats: Fp8Format, dtype: Dtype, lhs: jax.Array, rhs: jax.Array, state: Fp8State) -> jax.Array:
    return _dot_forward(dims, formats, dtype, lhs, rhs, state)[0]


def _dot_forward(
    dims: DotDims, formats: Fp8Format, dtype: Dtype, lhs: jax.Array, rhs: jax.Array, state: Fp8State
) -> Any:
    left = _quantized(lhs, state.input_scale, state.input_amax_history, formats.forward)
    right = _quantized(rhs, state.kernel_scale, state.kernel_amax_history, formats.forward)
    out = _contract(left, right, dims, formats.direct, dtype, lax.Precision.DEFAULT)
    histories = next_history(lhs, state.input_amax_history), next_history(rhs, state.kernel_amax_history)
    return out, (left, right, histories, state, jnp.zeros((), rhs.dtype))


def _dot_backward(dims: DotDims, formats: Fp8Format, _: Any, saved: Any, grad: jax.Array) -> Any:
    left, right, histories, state, like = saved
    back = _quantized(grad, state.output_grad_scale, state.output_grad_amax_history, formats.backward)
    new = Fp8State(
        left.scale,
        histories[0],
        right.scale,
        histories[1],
        back.scale,
        next_history(grad, state.output_grad_amax_history),
    )
    (of_left, of_right), (left_batch, right_batch) = dims
    batch = len(left_batch)
    left_free = left.values.ndim - batch - len(of_left)
    swapped = ((of_right, of_left), (right_batch, left_batch))
    options = (formats.direct, grad.dtype)
    # The product has the dimensions batch, free ones of the left, free ones of the right.
    grad_left = _contract_gradient(back, right, dims, batch + left_free, left.values.ndim, *options)
    grad_right = _contract_gradient(back, left, swapped, batch, right.values.ndim, *options)
    return grad_left.astype(like.dtype), grad_right.astype(like.dtype), new


_dot.defvjp(_dot_forward, _dot_backward)


def _contract_gradient(
    grad: _Quantized, other: _Quantized, dims: DotDims, start: int, ndim: int, direct: bool, dtype: Dtype
) -> jax.Array:
    """The gradient of a product with respect to one operand.

    Args:
      grad: of the product.
      other: the other operand.
      dims: of the product, the wanted operand first.
      start: where the free dimensions of the other operand begin in the product.
      ndim: number of dimensions of the wanted operand.
      direct: see `Fp8Format`.
      dtype: dtype of the result.
    """
    (wanted, others), (wanted_batch, others_batch) = dims
    free = [i for i in range(other.values.ndim) if i not in others and i not in others_batch]
    kept = [i for i in range(ndim) if i not in wanted and i not in wanted_batch]
    contracted = (tuple(range(start, start + len(free))), tuple(free))
    batch = (tuple(range(len(wanted_batch))), tuple(others_batch))
    out = _contract(grad, other, (contracted, batch), direct, dtype, lax.Precision.HIGHEST)
    # The dimensions come out as batch, free ones, and the contracted ones in the order that they have in the other.
    axes = [*wanted_batch, *kept, *(wanted[i] for i in np.argsort(others))]
    return lax.transpose(out, np.argsort(axes))


def _contract(
    a: _Quantized, b: _Quantized, dims: DotDims, direct: bool, dtype: Dtype, precision: PrecisionLike
) -> jax.Array:
    if not direct:
        return lax.dot_general(dequantize(*a, dtype), dequantize(*b, dtype), dims, precision=precision)
    out = lax.dot_general(a.values, b.values, dims, precision=precision, preferred_element_type=dtype)
    return dequantize(out, a.scale * b.scale, dtype)


def _quantized(x: jax.Array, scale: jax.Array, history: jax.Array, dtype: Dtype) -> _Quantized:
    scale = next_scale(scale, history, dtype)
    return _Quantized(quantize(x, scale, dtype), scale)


def _largest(dtype: Dtype) -> float:
    return float(jnp.finfo(dtype).max)


def _like(scale: jax.Array, x: jax.Array) -> jax.Array:
    return lax.broadcast_in_dim(scale.astype(x.dtype), x.shape, (x.ndim - 1,)) if x.ndim else scale.astype(x.dtype)[0]
