"""Products of matrices, over any batch and contracted axes."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_export.onnx.builder import Builder
from fx_export.onnx.registry import RefusedError, primitive
from fx_export.onnx.tensor import Tensor


@primitive("dot_general")
def dot_general(build: Builder, eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    """A sum of products."""
    (x_sum, _), _ = eqn.params["dimension_numbers"]
    dtype = np.dtype(eqn.outvars[0].aval.dtype)
    # Where nothing is contracted, numbers of 8 bits would be multiplied as such, and wrap around.
    small = bool(x_sum) and {x.dtype.name, y.dtype.name} <= {"int8", "uint8"} and dtype == np.int32
    shape = eqn.outvars[0].aval.shape
    if dtype in _SIGNED:
        # ONNX Runtime has no products of unsigned integers over nothing; all bits are those of signed ones.
        signed = _SIGNED[dtype]
        left, right = (build.cast(build.cast(factor, dtype), signed) for factor in (x, y))
        return build.cast(_dot(build, left, right, eqn.params["dimension_numbers"], signed, shape, small), dtype)
    return _dot(build, x, y, eqn.params["dimension_numbers"], dtype, shape, small)


def _dot(build: Builder, x: Tensor, y: Tensor, numbers: Any, dtype: np.dtype, shape: Any, small: bool) -> Tensor:
    (x_sum, y_sum), (x_batch, y_batch) = numbers
    if not small:
        x, y = build.cast(x, dtype), build.cast(y, dtype)
    if not x_sum:
        return _outer(build, x, y, x_batch, y_batch, shape)
    plain, swapped = _moves(x, y, x_batch, y_batch, x_sum, y_sum), _moves(y, x, y_batch, x_batch, y_sum, x_sum)
    if x_batch and not small and swapped < plain:
        # The transpose of a product is the product of the transposes in the other order, and costs nothing itself.
        count, first, second = len(x_batch), len(_rest(y, y_batch, y_sum)), len(_rest(x, x_batch, x_sum))
        turned = [*range(count), *range(count + first, count + first + second), *range(count, count + first)]
        return build.transpose(_product(build, y, x, y_batch, x_batch, y_sum, x_sum, dtype, small), turned)
    return _product(build, x, y, x_batch, y_batch, x_sum, y_sum, dtype, small)


def _product(
    build: Builder,
    x: Tensor,
    y: Tensor,
    x_batch: Sequence[int],
    y_batch: Sequence[int],
    x_sum: Sequence[int],
    y_sum: Sequence[int],
    dtype: np.dtype,
    small: bool,
) -> Tensor:
    x_free, y_free = _rest(x, x_batch, x_sum), _rest(y, y_batch, y_sum)
    dense = not x_batch and len(x_free) >= 1 and not _moved_16_bits(x, x_free)
    left = _matrix(build, x, x_batch, [[axis] for axis in x_free] if dense else [x_free], x_sum)
    right = _matrix(build, y, y_batch, [y_sum], y_free)
    rows = tuple(x.shape[axis] for axis in x_free) if dense else (_count(x, x_free),)
    product_shape = (*(x.shape[axis] for axis in x_batch), *rows, _count(y, y_free))
    product = build.op("MatMulInteger" if small else "MatMul", [left, right], product_shape, dtype, typed=_TYPED[small])
    free = [*(x.shape[axis] for axis in x_free), *(y.shape[axis] for axis in y_free)]
    return build.reshape(product, (*(x.shape[axis] for axis in x_batch), *free))


def _moved_16_bits(x: Tensor, x_free: Sequence[int]) -> bool:
    """Whether axes of a factor are transposed before it is cast, as ONNX Runtime itself casts float16.

    It ends the process at such a product with a matrix where the first axis moves; with one axis of rows it does not.
    """
    return x.stored.itemsize == 2 and len(x_free) > 1 and x.held[:1] != (x_free[0],)


def _moves(
    x: Tensor, y: Tensor, x_batch: Sequence[int], y_batch: Sequence[int], x_sum: Sequence[int], y_sum: Sequence[int]
) -> int:
    """How many of two factors have to be brought into another order of axes."""
    left = [*x_batch, *_rest(x, x_batch, x_sum), *x_sum]
    right = [*y_batch, *y_sum, *_rest(y, y_batch, y_sum)]
    pairs = ((x, left), (y, right))
    return sum([a for a in t.axes if a is not None] != [a for a in order if a in t.held] for t, order in pairs)


@primitive("ragged_dot_general")
def ragged_dot(build: Builder, eqn: Any, x: Tensor, y: Tensor, sizes: Tensor) -> Tensor:
    """Rows in groups, each multiplied with the matrix of its group: all products, of which each row keeps its own."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    plain = (((1,), (1,)), ((), ()))
    dot = tuple(tuple(tuple(axes) for axes in pair) for pair in numbers.dot_dimension_numbers)
    if (dot, tuple(numbers.lhs_ragged_dimensions), tuple(numbers.rhs_group_dimensions)) != (plain, (0,), (0,)):
        raise RefusedError("other axes than those of jax.lax.ragged_dot")
    dtype = eqn.outvars[0].aval.dtype

    def multiply(x: jax.Array, y: jax.Array, sizes: jax.Array) -> jax.Array:
        ends = jnp.cumsum(sizes)
        row = jnp.arange(x.shape[0])[:, None]
        within = (row >= (ends - sizes)[None]) & (row < ends[None])
        products = jnp.einsum("mk,gkn->gmn", x, y, preferred_element_type=dtype)
        return jnp.where(within.T[..., None], products, jnp.zeros((), dtype)).sum(0, dtype=dtype)

    return build.call(multiply, x, y, sizes)[0]


_SIGNED = {np.dtype(f"uint{bits}"): np.dtype(f"int{bits}") for bits in (32, 64)}
_TYPED = {True: (), False: (0, 1)}


def _rest(x: Tensor, *taken: Sequence[int]) -> list[int]:
    return [axis for axis in range(x.ndim) if not any(axis in axes for axes in taken)]


def _count(x: Tensor, axes: Sequence[int]) -> Any:
    return math.prod(x.shape[axis] for axis in axes)


def _matrix(
    build: Builder, x: Tensor, batch: Sequence[int], middle: Sequence[Sequence[int]], last: Sequence[int]
) -> Tensor:
    """Bring axes into the order of a product; each group becomes one axis."""
    groups = [*([axis] for axis in batch), *middle, last]
    moved = build.transpose(x, [axis for group in groups for axis in group])
    return build.reshape(moved, tuple(_count(x, group) for group in groups))


def _outer(
    build: Builder,
    x: Tensor,
    y: Tensor,
    x_batch: Sequence[int],
    y_batch: Sequence[int],
    shape: tuple[Any, ...],
) -> Tensor:
    """Without contracted axes a product is one of elements that are broadcast."""
    x_free, y_free = _rest(x, x_batch), _rest(y, y_batch)
    count = len(x_batch)
    left = build.transpose(x, [*x_batch, *x_free])
    right = build.transpose(y, [*y_batch, *y_free])
    left = build.broadcast(left, shape, range(count + len(x_free)))
    places = [*range(count), *range(count + len(x_free), len(shape))]
    return build.elementwise("And" if x.dtype == bool else "Mul", [left, build.broadcast(right, shape, places)])
