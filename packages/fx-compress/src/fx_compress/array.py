"""Quantized parameters: codes, scales, and how they multiply."""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from fx_core import serialization
from fx_core.array_node import ArrayNode
from fx_core.typing import Dtype, PrecisionLike
from jax import lax

from fx_compress import products
from fx_compress.blocks import combine
from fx_compress.errors import SchemeError
from fx_compress.formats import format_named, pack
from fx_compress.products import codes_of, numbers_of

__all__ = ["QuantizedArray"]


@dataclasses.dataclass(frozen=True)
class QuantizedArray(ArrayNode):
    """An array of few bits per element, which stands in for the float array it was made of.

    Layers take it wherever they take an array. A product with it multiplies the codes and scales the result where the
    scale does not vary along contracted axes; otherwise it scales the codes first. Gradients flow to what it is
    multiplied with, not to itself.

    Attributes:
      values: the codes; formats of four bits have two of them in each byte of the last axis.
      scale: one per block of the array: an axis of the array has 1, all, or a number of entries that divides its size.
      zero: int8, of the shape of ``scale``: the code that stands for 0; None where that is 0.
      input_scale: scalar (one per stacked layer): scale of integer inputs, found by calibration; None otherwise.
      format: ``"int8"``, ``"int4"``, ``"nf4"``, ``"e4m3"`` or ``"e5m2"``.
      computes: name of the dtype that the array appears to have.
      features: size of the last axis of the array that was quantized.
      activations: None to multiply float inputs; ``"dynamic"`` to round inputs to int8 by their own largest value,
        ``"static"`` by ``input_scale``. Sums that could leave int32 (133,000 inputs and more) are those of floats.
      shrink: one per input of the array, 1 along other axes: what inputs are multiplied with before the codes, because
        the weights were enlarged by as much before they were rounded; None for nothing.
      groups: sizes of the blocks along axes with several blocks of several elements; None to take whatever the shape
        of ``scale`` says, without a check.

    >>> import fx_compress, jax.numpy as jnp
    >>> kernel = fx_compress.int8().quantize(jnp.array([[1.0, 2.0], [-0.5, 4.0]]))
    >>> kernel.shape, kernel.nbytes
    ((2, 2), 12)
    >>> jnp.array([[1.0, 1.0]]) @ kernel
    Array([[0.496063, 6.015748]], dtype=float32)
    """

    values: jax.Array
    scale: jax.Array
    zero: jax.Array | None
    input_scale: jax.Array | None
    format: str
    computes: str
    features: int
    activations: str | None = None
    shrink: jax.Array | None = None
    groups: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that this stands for."""
        return (*self.values.shape[:-1], self._last)

    @property
    def _last(self) -> int:
        # Transforms give pieces of the codes, and trees are joined: ``features`` is that of the whole, made once.
        stored, packed = self.values.shape[-1], format_named(self.format).packed
        if not packed:
            return stored
        return self.features if -(-self.features // 2) == stored else 2 * stored

    @property
    def dtype(self) -> Any:
        """Dtype of the array that this stands for."""
        return jnp.dtype(self.computes)

    def replace(self, **updates: Any) -> Self:
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **updates)

    def astype(self, dtype: Dtype) -> Self:
        """Returns the same codes, to be computed with in another dtype."""
        return dataclasses.replace(self, computes=jnp.dtype(dtype).name)

    def leaf_specs(self, spec: Sequence[Any], pieces: Callable[[Any], int]) -> list[tuple[Any, ...]]:
        """Returns the layout of codes and scales; see `fx_core.array_node.ArrayNode.leaf_specs`.

        Codes are divided as the array is, and scales and zero points where there are enough blocks for all pieces: the
        rest has copies everywhere.
        """
        entries = (*spec, *(None,) * (self.ndim - len(spec)))

        def divided(entry: Any, size: int, whole: int) -> Any:
            return entry if (size == whole or size > 1) and size % pieces(entry) == 0 else None

        return [
            tuple(divided(*each) for each in zip(entries, jnp.shape(leaf), self.shape))
            for leaf in jax.tree.leaves(self)
        ]

    def codes(self) -> jax.Array:
        """Returns the codes, one per element of the array."""
        return codes_of(self.values, self.format, self._last)

    def numbers(self) -> jax.Array:
        """Returns what the codes stand for before scaling, less the zero point."""
        return numbers_of(self.values, self.zero, self.format, self._last, self.dtype)

    def materialize(self) -> jax.Array:
        """Returns the float array."""
        self._check_groups()
        # float16 scales of small weights would round to nothing before they are multiplied.
        wide = jnp.promote_types(self.dtype, jnp.float32)
        leaves = (self.values, self.scale) if self.zero is None else (self.values, self.scale, self.zero)
        result = _dequantizer(self.format, self._last, wide)(*leaves)
        return (result if self.shrink is None else result * self.shrink.astype(wide)).astype(self.dtype)

    def masked(self, mask: Any) -> Any:
        """Returns codes of zero where a mask of 0 and 1 has 0; an array where other numbers are, or may be, in it."""
        if not _of_zeros_and_ones(mask):
            return super().masked(mask)
        codes, kind = self.codes(), format_named(self.format)
        empty = jnp.broadcast_to(kind.encode(jnp.zeros(())), codes.shape).astype(codes.dtype)
        empty = empty if self.zero is None else combine(empty, self.zero, jnp.add)
        left = jnp.where(jnp.asarray(mask, bool), codes, empty)
        return dataclasses.replace(self, values=pack(left) if kind.packed else left)

    def dot_general(
        self,
        lhs: jax.Array,
        dimension_numbers: lax.DotDimensionNumbers,
        precision: PrecisionLike = None,
        preferred_element_type: Dtype | None = None,
        **options: Any,
    ) -> jax.Array:
        """Contracts an array with this; see `fx_core.array_node.ArrayNode.dot_general`."""
        self._check_groups()
        (_, contracted), _ = dimension_numbers
        options = {"precision": precision, "preferred_element_type": preferred_element_type, **options}
        sizes = enumerate(zip(self.scale.shape, self.shape))
        if not all(few == 1 or (few == many and axis not in contracted) for axis, (few, many) in sizes):
            return lax.dot_general(lhs, self.materialize(), dimension_numbers, **options)
        if self.shrink is not None:
            (of_lhs, of_rhs), batch = dimension_numbers
            if any(size != 1 and axis not in (*of_rhs, *batch[1]) for axis, size in enumerate(self.shrink.shape)):
                return lax.dot_general(lhs, self.materialize(), dimension_numbers, **options)
            laid = dict(zip((*batch[1], *of_rhs), (*batch[0], *of_lhs)))
            lhs = lhs * products.moved(self.shrink, laid, lhs.ndim).astype(lhs.dtype)
        dims = tuple((tuple(left), tuple(right)) for left, right in dimension_numbers)
        dtype = preferred_element_type or jnp.result_type(lhs.dtype, self.dtype)
        if self._by_integers(contracted):
            return _integer_dot(lhs, self, dims, dtype)
        if dtype == jnp.float16:  # sums of codes before scaling leave its range
            options["preferred_element_type"] = jnp.float32
        product = products.dot(self.format, self._last, self.dtype, dims, dtype, None, tuple(options.items()))
        return product(lhs, *_factors(self, self.zero))

    def conv_general_dilated(self, lhs: jax.Array, *args: Any, **options: Any) -> jax.Array:
        """Convolves an image with this; see `fx_core.array_node.ArrayNode.conv_general_dilated`."""
        self._check_groups()
        numbers = options.get("dimension_numbers")
        last = self.ndim - 1
        plain = isinstance(numbers, lax.ConvDimensionNumbers) and numbers.rhs_spec[0] == last
        dtype = options.get("preferred_element_type") or jnp.result_type(lhs.dtype, self.dtype)
        integers = self._by_integers(range(last))
        plain = plain and (dtype != jnp.float16 or integers)
        if not plain or self.shrink is not None or any(size != 1 for size in self.scale.shape[:-1]):
            return lax.conv_general_dilated(lhs, self.materialize(), *args, **options)
        assert isinstance(numbers, lax.ConvDimensionNumbers)
        args, given = _hashable(args), _hashable(tuple(options.items()))
        if integers:
            return _integer_conv(lhs, self, args, given, dtype)
        product = products.conv(self.format, self._last, self.dtype, args, dtype, None, given)
        return product(lhs, *_factors(self, self.zero))

    def _by_integers(self, contracted: Iterable[int]) -> bool:
        """Whether inputs are rounded to integers: their sums must not leave int32."""
        terms = math.prod(self.shape[axis] for axis in contracted)
        sums = terms * 127 * format_named(self.format).largest
        return self.activations is not None and self.zero is None and sums < 2**31

    def _check_groups(self) -> None:
        """Refuses a piece of the codes beside all scales, as ``shard_map`` gives it: they are those of other groups."""
        sizes = [many // few for many, few in zip(self.shape, self.scale.shape) if few]
        if missing := Counter(self.groups or ()) - Counter(sizes):
            raise SchemeError(
                "These codes are a piece of an array, and their scales are not those of the piece.",
                expected=f"a scale for every {', '.join(map(str, missing))} codes along an axis",
                got=f"scales of shape {list(self.scale.shape)} for codes of shape {list(self.shape)}",
                fix="divide the axis into no more pieces than it has groups, or leave the division to jit in place of "
                "shard_map",
            )

    def take(self, indices: jax.Array) -> jax.Array:
        """Returns rows; NaN for an index outside."""
        self._check_groups()
        if self.shrink is not None:
            return super().take(indices)
        kind = format_named(self.format)
        rows, indices = self.shape[0], jnp.asarray(indices)
        indices = indices.astype(jnp.promote_types(indices.dtype, jnp.int32))
        indices = jnp.where(indices < 0, indices + rows, indices)  # from the end, as in `jax.numpy.take`
        codes = jnp.take(self.values, indices, axis=0, mode="clip")
        wide = jnp.promote_types(self.dtype, jnp.float32)
        found = kind.numbers(codes_of(codes, self.format, self._last), wide)

        def picked(small: jax.Array) -> jax.Array:
            if small.shape[0] == 1:
                return small.reshape((*(1,) * indices.ndim, *small.shape[1:]))
            places = indices if small.shape[0] == rows else indices // (rows // small.shape[0])
            return jnp.take(small, places, axis=0, mode="clip")

        if self.zero is not None:
            found = combine(found, picked(self.zero.astype(wide)), jnp.subtract)
        found = combine(found, picked(self.scale.astype(wide)), jnp.multiply)
        inside = ((indices >= 0) & (indices < rows)).reshape(*indices.shape, *(1,) * (self.ndim - 1))
        return jnp.where(inside, found, jnp.nan).astype(self.dtype)


def _of_zeros_and_ones(mask: Any) -> bool:
    if mask.dtype == bool:
        return True
    return not isinstance(mask, jax.core.Tracer) and bool(np.isin(np.asarray(mask), (0, 1)).all())


def _factors(node: QuantizedArray, last: jax.Array | None) -> list[jax.Array]:
    """What functions of `fx_compress.products` take beside the inputs."""
    return [node.values, node.scale, *([] if last is None else [last])]


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(map(_hashable, value))
    return value


@functools.cache
def _dequantizer(format: str, features: int, dtype: Dtype) -> Callable[..., jax.Array]:
    def dequantized(values: jax.Array, scale: jax.Array, zero: jax.Array | None = None) -> jax.Array:
        return combine(numbers_of(values, zero, format, features, dtype), scale.astype(dtype), jnp.multiply)

    # Exporters know it by its name.
    dequantized.__name__ = f"fx_dequantize_{format}"
    return jax.jit(dequantized)


def _named(node: QuantizedArray) -> dict[str, Any]:
    """The leaves by names that say what the codes are: no checkpoint takes those of one format for another's."""
    odd = "_odd" if format_named(node.format).packed and node.features % 2 else ""
    return {
        f"values_{node.format}{odd}": node.values,
        "scale": node.scale,
        "zero": node.zero,
        "input_scale": node.input_scale,
        "shrink": node.shrink,
    }


def _flat(node: QuantizedArray) -> tuple[tuple[Any, ...], Any]:
    leaves = (node.values, node.scale, node.zero, node.input_scale, node.shrink)
    return leaves, (node.format, node.computes, node.features, node.activations, node.groups)


def _flat_with_keys(node: QuantizedArray) -> tuple[list[Any], Any]:
    return [(jax.tree_util.GetAttrKey(name), leaf) for name, leaf in _named(node).items()], _flat(node)[1]


def _unflat(static: Any, leaves: Any) -> QuantizedArray:
    values, scale, zero, input_scale, shrink = leaves
    form, computes, features, activations, groups = static
    return QuantizedArray(values, scale, zero, input_scale, form, computes, features, activations, shrink, groups)


def _from_state(node: QuantizedArray, state: Any) -> QuantizedArray:
    own = _named(node)
    state = serialization.matched(state, list(own), "QuantizedArray")
    return _unflat(
        _flat(node)[1], [serialization.from_state_dict(leaf, state[name], name) for name, leaf in own.items()]
    )


jax.tree_util.register_pytree_with_keys(QuantizedArray, _flat_with_keys, _unflat, _flat)
serialization.register_serialization_state(
    QuantizedArray, lambda node: serialization.named_to_state(_named(node)), _from_state
)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _integer_dot(lhs: jax.Array, node: QuantizedArray, dims: Any, dtype: Dtype) -> jax.Array:
    product = products.dot(node.format, node.shape[-1], node.dtype, dims, dtype, node.activations)
    return product(lhs, *_factors(node, node.input_scale if node.activations == "static" else None))


@_integer_dot.defjvp
def _(dims: Any, dtype: Dtype, primals: Any, tangents: Any) -> Any:
    # Straight through the rounding of the inputs: the slope of the product in exact arithmetic.
    lhs, node = primals
    slope = lax.dot_general(tangents[0], node.materialize(), dims, preferred_element_type=dtype)
    return _integer_dot(lhs, node, dims, dtype), slope


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _integer_conv(lhs: jax.Array, node: QuantizedArray, args: Any, options: Any, dtype: Dtype) -> jax.Array:
    product = products.conv(node.format, node.shape[-1], node.dtype, args, dtype, node.activations, options)
    return product(lhs, *_factors(node, node.input_scale if node.activations == "static" else None))


@_integer_conv.defjvp
def _(args: Any, options: Any, dtype: Dtype, primals: Any, tangents: Any) -> Any:
    lhs, node = primals
    slope = lax.conv_general_dilated(tangents[0], node.materialize(), *args, **dict(options)).astype(dtype)
    return _integer_conv(lhs, node, args, options, dtype), slope
