"""What is known about an attention before any number is: its sizes, and which kernel computes it."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from fx_core.errors.attention import attention_heads
from fx_core.errors.kinds import ShapeMismatchError
from fx_core.typing import Dtype

__all__ = ["AttentionPlan", "Implementation", "fits_weights", "flat_batch", "plan_attention"]

Shape = tuple[int, ...]
Implementation = Literal["xla", "cudnn"] | None


@dataclasses.dataclass(frozen=True)
class AttentionPlan:
    """The sizes of an attention. See `plan_attention`.

    Attributes:
      batch: sizes of the batch dimensions.
      queries: number of queries.
      keys: number of keys.
      num_heads: heads of the queries.
      num_kv_heads: heads of keys and values; each serves ``num_heads // num_kv_heads`` heads of the queries.
      depth: features of a query and a key.
      kernel: ``"fused"`` for `jax.nn.dot_product_attention`, ``"plain"`` for weights in an array of their own.
    """

    batch: Shape
    queries: int
    keys: int
    num_heads: int
    num_kv_heads: int
    depth: int
    kernel: Literal["fused", "plain"]

    @property
    def groups(self) -> int:
        """How many heads of the queries share one of the keys."""
        return self.num_heads // self.num_kv_heads

    @property
    def weights_shape(self) -> Shape:
        """The weights have the shape ``(*batch, num_heads, queries, keys)``."""
        return (*self.batch, self.num_heads, self.queries, self.keys)


@functools.lru_cache(maxsize=1024)
def plan_attention(
    query: Shape,
    key: Shape,
    value: Shape | None = None,
    *,
    bias: Shape | None = None,
    mask: Shape | None = None,
    dtype: Dtype | None = None,
    needs_weights: bool = False,
    implementation: Implementation = None,
) -> AttentionPlan:
    """Checks the shapes of an attention and choose its kernel.

    The fused kernel takes everything but what needs the weights themselves: it computes in float32 and rounds once, so
    the choice changes no more than rounding. Dtypes wider than float32 would lose by that, and float16 is known to the
    fused kernels of GPUs only.

    Args:
      query: shape ``(*batch, queries, heads, depth)``, as a tuple.
      key: shape ``(*batch, keys, kv_heads, depth)``.
      value: shape ``(*batch, keys, kv_heads, value_depth)``; None when only weights are wanted.
      bias: shape that broadcasts to ``(*batch, heads, queries, keys)``, or None.
      mask: likewise.
      dtype: of the computation.
      needs_weights: whether something drops, stores or replaces the computation of weights.
      implementation: the kernel that the caller asks `jax.nn.dot_product_attention` for.

    Returns:
      The plan; equal arguments give the same object.

    Raises:
      ShapeMismatchError: queries, keys and values do not fit each other.
      ArgumentError: the heads of the keys do not divide those of the queries.
      ShapeMismatchError: bias or mask do not broadcast to the weights.

    >>> plan = plan_attention((2, 5, 8, 16), (2, 7, 4, 16), (2, 7, 4, 16), dtype="float32")
    >>> plan.weights_shape, plan.groups, plan.kernel
    ((2, 8, 5, 7), 2, 'fused')
    """
    _check_shapes(query, key, value)
    queries, heads, depth = query[-3:]
    keys, kv_heads = key[-3:-1]
    if not kv_heads or heads % kv_heads:
        raise attention_heads("heads of the queries", heads, "num_kv_heads", kv_heads)
    plan = AttentionPlan(query[:-3], queries, keys, heads, kv_heads, depth, "plain")
    # A bias with more batch than the queries makes more weights than planned; only the plain way knows how.
    bias_fits, mask_fits = (
        fits_weights("bias", bias, plan.weights_shape),
        fits_weights("mask", mask, plan.weights_shape),
    )
    fits = bias_fits and mask_fits
    if needs_weights or value is None or not fits or value[-1] != depth or 0 in plan.weights_shape or not depth:
        return plan
    known = ("bfloat16", "float16") if implementation == "cudnn" else ("float32", "bfloat16")
    return dataclasses.replace(plan, kernel="fused") if np.dtype(dtype).name in known else plan


def _check_shapes(query: Shape, key: Shape, value: Shape | None) -> None:
    names = "queries and keys" if value is None else "queries, keys and values"
    shapes = (query, key) if value is None else (query, key, value)
    if len({len(shape) for shape in shapes}) > 1 or len(query) < 3:
        raise ShapeMismatchError(
            f"The {names} do not have the same number of dimensions, at least three.",
            expected="(*batch, length, heads, depth) for each",
            got=shapes,
            fix="add the missing dimensions, such as x[None] for a batch of one",
        )
    if len({shape[:-3] for shape in shapes}) > 1:
        raise ShapeMismatchError(
            f"The {names} have different batch dimensions.",
            expected=f"batch dimensions {query[:-3]}, as the queries",
            got=shapes,
            fix="repeat the smaller ones (jnp.broadcast_to)",
        )
    if query[-1] != key[-1]:
        raise ShapeMismatchError(
            "Queries and keys have different depths.",
            expected=f"depth {query[-1]}, as the queries",
            got=shapes,
            fix="project queries and keys to the same number of features",
        )
    if value is not None and value[-3:-1] != key[-3:-1]:
        raise ShapeMismatchError(
            "Keys and values differ in length or heads.",
            expected=f"(length, heads) = {key[-3:-1]}, as the keys",
            got=shapes,
            fix="give one value per key and head",
        )


def fits_weights(name: str, shape: Sequence[int] | None, weights: Shape) -> bool:
    """Returns whether a mask or bias broadcasts to the weights without making them larger.

    Args:
      name: of the argument.
      shape: its shape; None fits.
      weights: ``(*batch, heads, queries, keys)``.

    Raises:
      ShapeMismatchError: it does not broadcast at all.
    """
    if shape is None:
        return True
    if any(size != full and 1 not in (size, full) for size, full in zip(reversed(shape), reversed(weights))):
        raise ShapeMismatchError(
            f"The {name} does not broadcast to the attention weights.",
            expected=f"a shape that broadcasts to (*batch, heads, queries, keys) = {tuple(weights)}",
            got=tuple(shape),
            fix="make_attention_mask and make_causal_mask give masks of the right shape",
        )
    padded = (1,) * (len(weights) - len(shape)) + tuple(shape)
    return len(padded) == len(weights) and all(size in (1, full) for size, full in zip(padded, weights))


def flat_batch(plan: AttentionPlan) -> int:
    """Returns the number of sequences."""
    return math.prod(plan.batch)
