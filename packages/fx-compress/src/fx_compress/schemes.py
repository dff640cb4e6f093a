"""Schemes: how one parameter is quantized."""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.core
import jax.numpy as jnp
from fx_core.array_node import ArrayNode

from fx_compress.array import QuantizedArray
from fx_compress.blocks import block_shape, combine, group_sizes, grouped, reduce_blocks
from fx_compress.errors import SchemeError
from fx_compress.formats import format_named, pack

__all__ = ["Activations", "Rounding", "Scales", "Scheme", "fp8", "int4", "int8", "nf4"]

Activations = Literal["dynamic", "static"]
Rounding = Literal["nearest", "gptq", "awq"]
# How much of the largest value is kept by the search for the scale of the least squared error.
_SHRINKS = 40


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How a parameter is quantized. Make one by `int8`, `int4`, `nf4` or `fp8`.

    Attributes:
      format: of the codes.
      group: number of inputs of an output feature that share a scale; None for all of them.
      symmetric: whether 0 is the middle of the codes; otherwise each block has a zero point.
      clip: ``"minmax"`` to represent the largest value, ``"mse"`` for the least squared error.
      rounding: ``"nearest"``; ``"gptq"``, which lets later inputs make up for the errors of earlier ones; or ``"awq"``,
        which enlarges the weights of large inputs before it rounds them.
      activations: None for float inputs; ``"dynamic"`` or ``"static"`` for products of integers.
      calibration: how the range of static activations is chosen: ``"minmax"``, ``"percentile"`` or ``"mse"``.
      percentile: of the magnitudes of inputs, for ``"percentile"``.

    Raises:
      SchemeError: options that do not go together.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> scheme = fx_compress.Scheme("int4", group=32, symmetric=False)
    >>> scheme.quantize(jnp.ones((64, 8))).shape
    (64, 8)
    """

    format: str
    group: int | None = None
    symmetric: bool = True
    clip: Literal["minmax", "mse"] = "minmax"
    rounding: Rounding = "nearest"
    activations: Activations | None = None
    calibration: Literal["minmax", "percentile", "mse"] = "minmax"
    percentile: float = 99.9

    def __post_init__(self) -> None:
        kind = format_named(self.format)
        choices = {
            "clip": ("minmax", "mse"),
            "rounding": ("nearest", "gptq", "awq"),
            "activations": (None, "dynamic", "static"),
            "calibration": ("minmax", "percentile", "mse"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise SchemeError(f"There is no such {name}.", expected=f"one of {allowed}", got=getattr(self, name))
        if self.group is not None and (type(self.group) is not int or self.group < 1):
            raise SchemeError("A group is a number of inputs.", expected="a positive integer, or None", got=self.group)
        if not self.symmetric and not kind.integer:
            raise SchemeError(f"The format {self.format} has no zero point.", expected="symmetric=True", got=False)
        if self.activations is not None:
            self._check_activations(kind.integer)
        if self.rounding == "awq" and self.activations == "static":
            raise SchemeError(
                "Scaling by the inputs changes the range that static activations have.",
                expected='activations=None or "dynamic" with rounding="awq"',
                got=self.activations,
            )
        if not 0 < self.percentile <= 100:
            raise SchemeError("A percentile is out of range.", expected="above 0, at most 100", got=self.percentile)

    def _check_activations(self, integer: bool) -> None:
        if not integer or not self.symmetric or self.group is not None:
            raise SchemeError(
                "Products of integers need one scale per output feature and no zero point.",
                expected="an integer format, symmetric, without groups",
                got=f"{self.format}, symmetric={self.symmetric}, group={self.group}",
                fix="leave out activations=, or group= and symmetric=False",
            )

    def quantize(
        self,
        array: jax.Array,
        axes: tuple[int, ...] | None = None,
        *,
        input_scale: jax.Array | None = None,
        path: str = "",
    ) -> QuantizedArray:
        """Quantizes one array, by rounding to nearest.

        Args:
          array: floats, of two dimensions at least.
          axes: those that are contracted, whose elements may share a scale; all but the last by default. With groups,
            the last of them is divided.
          input_scale: scale of the inputs, for static activations.
          path: where the array is, for errors.

        Returns:
          The quantized array, of the same shape and dtype to compute with.

        Raises:
          SchemeError: the array is no float array of two dimensions, or its size does not divide into groups.
        """
        axes = checked_axes(self, array, axes, path)
        scales = self.scales(array, axes)
        return self.finish(array, scales, self.codes(array, scales), input_scale)

    def scales(self, array: jax.Array, axes: tuple[int, ...]) -> "Scales":
        """Returns the scale, and the zero point if there is one, of each block of an array."""
        shape, wide = block_shape(array.shape, axes, self.group), array.astype(jnp.float32)
        if self.clip == "minmax":
            return self._scales_of(wide, shape, 1.0)
        shrinks = jnp.linspace(1.0, 0.4, _SHRINKS)
        errors = [self._error(wide, shape, shrink) for shrink in shrinks]
        best = shrinks[jnp.argmin(jnp.stack(errors), axis=0)]
        return self._scales_of(wide, shape, best)

    def _scales_of(self, wide: jax.Array, shape: tuple[int, ...], shrink: Any) -> "Scales":
        kind = format_named(self.format)
        if self.symmetric:
            largest = reduce_blocks(jnp.abs(wide), shape, _largest) * shrink
            return Scales(_nonzero(largest / kind.largest, largest == 0), None)
        low = -reduce_blocks(-wide, shape, _largest) * shrink
        high = reduce_blocks(wide, shape, _largest) * shrink
        # Divided first: the difference of huge values has no number.
        scale = _nonzero(high / (2 * kind.largest) - low / (2 * kind.largest), high == low)
        return Scales(scale, jnp.round(-low / scale - kind.largest))

    def _error(self, wide: jax.Array, shape: tuple[int, ...], shrink: jax.Array) -> jax.Array:
        scales = self._scales_of(wide, shape, shrink)
        difference = self.finish(wide, scales, self.codes(wide, scales)).materialize() - wide
        return reduce_blocks(difference**2, shape, jnp.sum)

    def codes(self, array: jax.Array, scales: "Scales") -> jax.Array:
        """Returns the codes, not packed, nearest to an array."""
        scaled = combine(array.astype(jnp.float32), scales.scale, _divided)
        if scales.zero is not None:
            scaled = combine(scaled, scales.zero, jnp.add)
        return format_named(self.format).encode(scaled)

    def finish(
        self, array: jax.Array, scales: "Scales", codes: jax.Array, input_scale: jax.Array | None = None
    ) -> QuantizedArray:
        """Returns the quantized array of codes and scales."""
        kind = format_named(self.format)
        return QuantizedArray(
            values=pack(codes) if kind.packed else codes,
            scale=scales.scale,
            zero=None if scales.zero is None else scales.zero.astype(jnp.int8),
            input_scale=input_scale,
            format=self.format,
            computes=jnp.dtype(array.dtype).name,
            features=array.shape[-1],
            activations=self.activations,
            groups=grouped(array.shape, scales.scale.shape),
        )


@dataclasses.dataclass(frozen=True)
class Scales:
    """Scale and zero point of each block of an array.

    Attributes:
      scale: float32.
      zero: float32, whole numbers; None for symmetric schemes.
    """

    scale: jax.Array
    zero: jax.Array | None


# At least 0, which is also that of arrays without elements.
_largest = functools.partial(jnp.max, initial=0)


def _divided(values: jax.Array, scale: jax.Array) -> jax.Array:
    """Values over scales; compilers multiply by the reciprocal, which processors take for 0 if the scale is huge."""
    smaller = jnp.where(scale > 2.0**100, 2.0**-64, 1.0).astype(jnp.float32)
    return (values * smaller) / (scale * smaller)


def _nonzero(scale: jax.Array, empty: jax.Array) -> jax.Array:
    """Scales that are 1 for blocks of zeros, and never so small that processors take them for 0."""
    return jnp.where(empty, 1.0, jnp.maximum(scale, jnp.finfo(jnp.float32).tiny))


def checked_axes(scheme: Scheme, array: Any, axes: tuple[int, ...] | None, path: str = "") -> tuple[int, ...]:
    """Returns contracted axes counted from the front, in order.

    Raises:
      SchemeError: the array cannot be quantized so.
    """
    ndim = len(array.shape)
    if isinstance(array, ArrayNode) or ndim < 2 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise SchemeError(
            "This cannot be quantized.",
            path=path or None,
            expected="floats of two dimensions or more",
            got=f"{array.format if isinstance(array, QuantizedArray) else array.dtype}{list(array.shape)}",
            fix="choose kernels and embeddings only, and dequantize before quantizing anew",
        )
    axes = tuple(range(ndim - 1)) if axes is None else tuple(sorted(axis % ndim for axis in axes))
    sizes, group = group_sizes([array.shape[axis] for axis in axes]), scheme.group
    if group is not None and math.prod(array.shape) and group not in sizes:
        near = min(sizes, key=lambda n: abs(n - group))
        raise SchemeError(
            "The inputs do not divide into groups of this size.",
            path=path or None,
            expected=f"a group that divides {array.shape[axes[-1]]}, such as {near}",
            got=group,
            fix="give this parameter a rule of its own with another group, or group=None",
        )
    if not isinstance(array, jax.core.Tracer):
        _check_range(array, path)
    return axes


def _check_range(array: jax.Array, path: str) -> None:
    # Also where the array is a constant of a function that is traced.
    with jax.ensure_compile_time_eval():
        largest = float(jnp.max(jnp.abs(array), initial=0))
    limits = jnp.finfo(jnp.float32)
    if not math.isfinite(largest):
        raise SchemeError(
            "This weight is not finite.",
            path=path or None,
            expected="finite numbers",
            got="NaN or inf",
            fix="no code stands for these: look for the training step, or the file, that they come from",
        )
    if array.dtype == jnp.float64 and largest and not float(limits.tiny) <= largest <= float(limits.max):
        raise SchemeError(
            "This weight is out of the range of its scales, which are float32.",
            path=path or None,
            expected=f"a largest value from {limits.tiny:.1e} to {limits.max:.1e}, or zeros",
            got=f"{largest:.1e}",
            fix="leave this parameter out, or train it in another scale",
        )


def int8(
    *,
    group: int | None = None,
    symmetric: bool = True,
    clip: Literal["minmax", "mse"] = "minmax",
    rounding: Rounding = "nearest",
    activations: Activations | None = None,
    calibration: Literal["minmax", "percentile", "mse"] = "minmax",
    percentile: float = 99.9,
) -> Scheme:
    """Returns the scheme of eight-bit integers with a float32 scale per output feature; see `Scheme`.

    >>> import fx_compress, jax.numpy as jnp
    >>> fx_compress.int8(activations="dynamic").quantize(jnp.ones((4, 4))).format
    'int8'
    """
    return Scheme("int8", group, symmetric, clip, rounding, activations, calibration, percentile)


def int4(
    *,
    group: int | None = None,
    symmetric: bool = True,
    clip: Literal["minmax", "mse"] = "minmax",
    rounding: Rounding = "nearest",
    activations: Activations | None = None,
    calibration: Literal["minmax", "percentile", "mse"] = "minmax",
    percentile: float = 99.9,
) -> Scheme:
    """Returns the scheme of four-bit integers, two in each byte; see `Scheme`. Groups of 32 to 128 keep it exact.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> fx_compress.int4(group=32).quantize(jnp.ones((64, 8))).format
    'int4'
    """
    return Scheme("int4", group, symmetric, clip, rounding, activations, calibration, percentile)


def nf4(*, group: int | None = 64, clip: Literal["minmax", "mse"] = "minmax") -> Scheme:
    """Returns the scheme of four-bit codes at the quantiles of a normal distribution.

    Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs*, 2023.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> fx_compress.nf4(group=32).quantize(jnp.ones((64, 8))).format
    'nf4'
    """
    return Scheme("nf4", group, True, clip)


def fp8(format: Literal["e4m3", "e5m2"] = "e4m3", *, group: int | None = None) -> Scheme:
    """Returns the scheme of eight-bit floats, scaled to their range.

    Micikevicius et al., *FP8 Formats for Deep Learning*, 2022.

    >>> import jax.numpy as jnp
    >>> import fx_compress
    >>> fx_compress.fp8("e5m2").quantize(jnp.ones((64, 8))).format
    'e5m2'
    """
    return Scheme(format, group)
