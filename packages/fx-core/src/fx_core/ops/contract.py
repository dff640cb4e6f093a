"""Products with a parameter: the one place where an array-like parameter is asked to multiply itself.

Layers of fx-nnx have JAX's own functions as the defaults of what users may replace: these count as not replaced.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.array_node import ArrayNode, array_of

__all__ = ["Contraction", "conv_general_dilated", "dot_general", "einsum"]

Contraction = Callable[..., jax.Array]
"""What replaces `jax.lax.dot_general`, `jax.numpy.einsum` or `jax.lax.conv_general_dilated` in a layer."""


def dot_general(
    lhs: jax.Array,
    rhs: Any,
    dimension_numbers: lax.DotDimensionNumbers,
    replacement: Contraction | None = None,
    **options: Any,
) -> jax.Array:
    """Contracts an array with a parameter.

    Args:
      lhs: the array.
      rhs: an array, or an `fx_core.array_node.ArrayNode`.
      dimension_numbers: contracting and batch dimensions of both.
      replacement: of `jax.lax.dot_general`; it is given arrays.
      **options: ``precision``, ``preferred_element_type``, ``out_sharding``.

    >>> import jax.numpy as jnp
    >>> dot_general(jnp.ones((1, 3)), jnp.ones((3, 2)), (((1,), (0,)), ((), ())))
    Array([[3., 3.]], dtype=float32)
    """
    if replacement is not None and replacement is not lax.dot_general:
        return replacement(lhs, array_of(rhs), dimension_numbers, **options)
    if isinstance(rhs, ArrayNode):
        return rhs.dot_general(lhs, dimension_numbers, **options)
    return lax.dot_general(lhs, rhs, dimension_numbers, **options)


def conv_general_dilated(
    lhs: jax.Array, rhs: Any, *args: Any, replacement: Contraction | None = None, **options: Any
) -> jax.Array:
    """Convolves as `jax.lax.conv_general_dilated` with a kernel that may be an `fx_core.array_node.ArrayNode`."""
    if replacement is not None and replacement is not lax.conv_general_dilated:
        return replacement(lhs, array_of(rhs), *args, **options)
    if isinstance(rhs, ArrayNode):
        return rhs.conv_general_dilated(lhs, *args, **options)
    return lax.conv_general_dilated(lhs, rhs, *args, **options)


def einsum(
    equation: str, lhs: jax.Array, rhs: Any, replacement: Contraction | None = None, **options: Any
) -> jax.Array:
    """Computes an einsum of an array and a parameter, an array or an `fx_core.array_node.ArrayNode`.

    Args:
      equation: of two operands, without blanks.
      lhs: the first operand.
      rhs: the second operand.
      replacement: of `jax.numpy.einsum`; it is given arrays.
      **options: ``precision``, ``preferred_element_type``, ``out_sharding``.

    >>> import jax.numpy as jnp
    >>> einsum("ab,bc->ca", jnp.ones((1, 3)), jnp.ones((3, 2))).shape
    (2, 1)
    """
    if replacement is not None and replacement is not jnp.einsum:
        return replacement(equation, lhs, array_of(rhs), **options)
    if isinstance(rhs, ArrayNode):
        dims = _as_contraction(equation, lhs.shape, rhs.shape)
        if dims is not None and options.get("out_sharding") is None:
            numbers, order = dims
            return lax.transpose(rhs.dot_general(lhs, numbers, **options), order)
    return jnp.einsum(equation, lhs, array_of(rhs), **options)


def _as_contraction(
    equation: str, lhs_shape: tuple[int, ...], rhs_shape: tuple[int, ...]
) -> tuple[lax.DotDimensionNumbers, tuple[int, ...]] | None:
    """Dimension numbers and the order of the result's axes; None for equations that are more than one contraction."""
    operands, out = equation.split("->")
    left, right = operands.split(",")
    spare = iter(chr(code) for code in range(0x3B1, 0x3B1 + 64))
    dots = "".join(next(spare) for _ in range(len(lhs_shape) - len(left.replace("...", ""))))
    if "..." in right:
        return None
    left, out = left.replace("...", dots), out.replace("...", dots)
    plain = all(len(set(labels)) == len(labels) for labels in (left, right, out))
    sizes = dict(zip(left, lhs_shape))
    if not plain or any(sizes.get(label, size) != size for label, size in zip(right, rhs_shape)):
        return None
    batch = [label for label in left if label in right and label in out]
    contracted = [label for label in left if label in right and label not in out]
    rest = [label for label in (*left, *right) if (label in left) != (label in right)]
    if set(batch + rest) != set(out):  # a label that only one operand has and the result has not is summed
        return None
    made = [*batch, *(x for x in left if x in rest), *(x for x in right if x in rest)]
    numbers = (
        (tuple(map(left.index, contracted)), tuple(map(right.index, contracted))),
        (tuple(map(left.index, batch)), tuple(map(right.index, batch))),
    )
    return numbers, tuple(made.index(label) for label in out)
