"""Products with codes, each a compiled function of its own, which exporters know by its name."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.typing import Dtype
from jax import lax

from fx_compress.blocks import combine
from fx_compress.errors import SchemeError
from fx_compress.formats import format_named, unpack
from fx_compress.straight import input_steps

__all__ = ["codes_of", "conv", "dot", "moved", "numbers_of"]

# The CPU compiler of jaxlib 0.10.0 ends in invalid code for products of stacked int8 arrays.
_FACTOR = jnp.int8 if jax.__version_info__ >= (0, 10, 2) else jnp.int32


def codes_of(values: jax.Array, format: str, features: int) -> jax.Array:
    """Returns codes, one per element, of those that are stored.

    Raises:
      SchemeError: something is differentiated with respect to them.
    """
    kind = format_named(format)
    if kind.packed:
        return unpack(values, features, kind.integer)
    return values if kind.integer else _constant(values)


def numbers_of(values: jax.Array, zero: jax.Array | None, format: str, features: int, dtype: Dtype) -> jax.Array:
    """Returns what stored codes stand for before scaling, less the zero point."""
    numbers = format_named(format).numbers(codes_of(values, format, features), dtype)
    return numbers if zero is None else combine(numbers, zero.astype(dtype), jnp.subtract)


@functools.cache
def dot(
    format: str, features: int, computes: Dtype, dims: Any, dtype: Dtype, activations: str | None, options: Any = ()
) -> Callable[..., jax.Array]:
    """Returns the product of an array with codes that have a scale per output feature.

    Args:
      format: of the codes.
      features: size of their last axis.
      computes: dtype to multiply in.
      dims: see `jax.lax.dot_general`.
      dtype: of the result.
      activations: None to multiply floats; otherwise inputs are rounded to int8.
      options: pairs, for `jax.lax.dot_general`.

    Returns:
      A function of the array, the stored codes, their scale, and the zero point or the scale of the inputs, or None.
    """
    (contracted, _), _ = dims

    def floats(lhs: jax.Array, values: jax.Array, scale: jax.Array, zero: jax.Array | None = None) -> jax.Array:
        numbers = numbers_of(values, zero, format, features, computes)
        result = lax.dot_general(lhs, numbers, dims, **dict(options))
        return _scaled(result, _beside(scale, lhs.ndim, dims, right=True)).astype(dtype)

    def integers(
        lhs: jax.Array, values: jax.Array, scale: jax.Array, input_scale: jax.Array | None = None
    ) -> jax.Array:
        rounded, of_inputs = _rounded(lhs, input_scale, tuple(contracted))
        codes = codes_of(values, format, features).astype(_FACTOR)
        sums = lax.dot_general(rounded, codes, dims, preferred_element_type=jnp.int32)
        of_lhs = _beside(of_inputs, scale.ndim, dims, right=False)
        of_rhs = _beside(scale.astype(jnp.float32), lhs.ndim, dims, right=True)
        return (sums.astype(jnp.float32) * of_lhs * of_rhs).astype(dtype)

    return _compiled(floats if activations is None else integers, f"fx_dot_{format}", activations)


@functools.cache
def conv(
    format: str, features: int, computes: Dtype, args: Any, dtype: Dtype, activations: str | None, options: Any
) -> Callable[..., jax.Array]:
    """Returns the convolution of an image with codes that have a scale per output feature; see `dot`.

    Args:
      format: of the codes.
      features: size of their last axis.
      computes: dtype to multiply in.
      args: those after the kernel, for `jax.lax.conv_general_dilated`.
      dtype: of the result of integers.
      activations: None to multiply floats; otherwise inputs are rounded to int8.
      options: pairs, for `jax.lax.conv_general_dilated`.
    """
    numbers = dict(options)["dimension_numbers"]

    def floats(lhs: jax.Array, values: jax.Array, scale: jax.Array, zero: jax.Array | None = None) -> jax.Array:
        kernel = numbers_of(values, zero, format, features, computes)
        result = lax.conv_general_dilated(lhs, kernel, *args, **dict(options))
        return _scaled(result, _along(scale, numbers.out_spec[1], result.ndim))

    def integers(
        lhs: jax.Array, values: jax.Array, scale: jax.Array, input_scale: jax.Array | None = None
    ) -> jax.Array:
        rounded, of_inputs = _rounded(lhs, input_scale, tuple(a for a in range(lhs.ndim) if a != numbers.lhs_spec[0]))
        plain = {name: value for name, value in options if name not in ("precision", "preferred_element_type")}
        codes = codes_of(values, format, features).astype(_FACTOR)
        sums = lax.conv_general_dilated(rounded, codes, *args, **plain, preferred_element_type=jnp.int32)
        by_example = _along(of_inputs, numbers.out_spec[0], lhs.ndim)
        by_feature = _along(scale.astype(jnp.float32), numbers.out_spec[1], lhs.ndim)
        return (sums.astype(jnp.float32) * by_example * by_feature).astype(dtype)

    return _compiled(floats if activations is None else integers, f"fx_conv_{format}", activations)


def _compiled(function: Callable[..., jax.Array], name: str, activations: str | None) -> Callable[..., jax.Array]:
    function.__name__ = name if activations is None else f"{name}_{activations}"
    return jax.jit(function)


@jax.custom_jvp
def _constant(values: jax.Array) -> jax.Array:
    return values


@functools.partial(_constant.defjvp, symbolic_zeros=True)
def _(primals: Any, tangents: Any) -> Any:
    (values,), (tangent,) = primals, tangents
    if not isinstance(tangent, jax.custom_derivatives.SymbolicZero):
        raise SchemeError(
            "Codes have no gradient: eight-bit floats here are codes as integers are.",
            expected="a derivative with respect to other parameters",
            got=f"one with respect to codes of {values.dtype}{list(values.shape)}",
            fix="differentiate adapters, biases and norms only, or dequantize the model before it is trained",
        )
    return values, tangent


def _scaled(result: jax.Array, scale: jax.Array) -> jax.Array:
    # A scale that is rounded to bfloat16 would bend a whole feature.
    wide = jnp.promote_types(result.dtype, jnp.float32)
    return (result.astype(wide) * scale.astype(wide)).astype(result.dtype)


def _rounded(lhs: jax.Array, input_scale: jax.Array | None, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Inputs as int8 and their scale, which has size 1 in the axes."""
    wide = lhs.astype(jnp.float32)
    if input_scale is not None:
        scale = jnp.broadcast_to(input_scale.astype(jnp.float32), (1,) * lhs.ndim)
        # No integer is a NaN: it is kept in the scale.
        scale = jnp.where(jnp.isnan(wide).any(axes, keepdims=True), jnp.nan, scale)
    else:
        scale = input_steps(jnp.abs(wide).max(axes, keepdims=True, initial=0))
    return jnp.clip(jnp.round(wide / scale), -127, 127).astype(_FACTOR), scale


def _beside(scale: jax.Array, other_ndim: int, dims: Any, right: bool) -> jax.Array:
    """The scale of one operand, in the layout of the result of a contraction."""
    (lhs_contracted, rhs_contracted), (lhs_batch, rhs_batch) = dims
    contracted, batch = (rhs_contracted, rhs_batch) if right else (lhs_contracted, lhs_batch)
    free = [axis for axis in range(scale.ndim) if axis not in contracted and axis not in batch]
    arranged = lax.transpose(scale, (*batch, *free, *contracted))
    sizes, n_batch = arranged.shape[: len(batch) + len(free)], len(batch)
    others = (1,) * (other_ndim - len(contracted) - n_batch)
    if right:
        return arranged.reshape((*sizes[:n_batch], *others, *sizes[n_batch:]))
    return arranged.reshape((*sizes, *others))


def _along(scale: jax.Array, axis: int, ndim: int) -> jax.Array:
    return scale.reshape([-1 if i == axis else 1 for i in range(ndim)])


def moved(small: jax.Array, axes: dict[int, int], ndim: int) -> jax.Array:
    """Returns an array with its axes in other places, and axes of size 1 in the rest."""
    order: Sequence[int] = sorted(axes, key=lambda axis: axes[axis])
    sizes = {axes[axis]: small.shape[axis] for axis in order}
    rest = [axis for axis in range(small.ndim) if axis not in axes]
    return lax.transpose(small, (*order, *rest)).reshape([sizes.get(axis, 1) for axis in range(ndim)])
