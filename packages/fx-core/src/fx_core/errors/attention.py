"""Errors of attention, its key-value cache and rotary positions."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors.ops import OpArgumentError

__all__ = [
    "AttentionDropoutKeyError",
    "AttentionHeadsError",
    "AttentionHookError",
    "AttentionInputsError",
    "AttentionMaskShapeError",
    "AttentionShapeError",
    "CacheFullError",
    "CacheShapeError",
    "MaskRankError",
    "RopeShapeError",
]


class AttentionShapeError(OpArgumentError):
    """Queries, keys and values do not fit each other.

    Wrong: ``dot_product_attention(q, k, v[:, :-1])``. Right: as many values as keys.
    """

    def __init__(self, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(what, expected=expected, got=got, fix=fix)


class AttentionMaskShapeError(OpArgumentError):
    """A mask or bias does not broadcast to the attention weights.

    Wrong: ``mask`` of shape ``(batch, length)``. Right: ``mask[:, None, None, :]``, shape ``(batch, 1, 1, length)``.
    """

    def __init__(self, name: str, shape: Sequence[Any], weights_shape: Sequence[Any]):
        super().__init__(
            f"The {name} does not broadcast to the attention weights.",
            expected=f"a shape that broadcasts to (*batch, heads, queries, keys) = {tuple(weights_shape)}",
            got=tuple(shape),
            fix="make_attention_mask and make_causal_mask give masks of the right shape",
        )


class AttentionHeadsError(OpArgumentError):
    """The features do not divide into the heads, or the query heads into those of keys and values.

    Wrong: ``MultiHeadAttention(num_heads=3, qkv_features=8)``. Right: ``num_heads=4``.
    """

    def __init__(self, what: str, amount: int, name: str, parts: int):
        super().__init__(
            f"{amount} {what} cannot be divided evenly.",
            expected=f"{name} that divides {amount}",
            got=f"{name}={parts}",
            fix=f"change {name}, or the number of {what}",
        )


class AttentionHookError(OpArgumentError):
    """Functions that replace the contractions of attention were given in a combination without meaning.

    Wrong: ``dot_product_attention(q, k, v, qk_attn_weights_einsum=f)``. Right: both einsum functions, without
    ``precision`` and ``einsum_dot_general``, which these einsums choose themselves.
    """

    def __init__(self, what: str, *, expected: str, got: str):
        super().__init__(
            what, expected=expected, got=got, fix="leave one of them out, or bind it with functools.partial"
        )


class AttentionDropoutKeyError(OpArgumentError):
    """Attention weights are to be dropped, but there is no key to draw with.

    Wrong: ``dot_product_attention(q, k, v, dropout_rate=0.1)``. Right: with ``dropout_rng=key``, or
    ``deterministic=True``.
    """

    def __init__(self, rate: Any):
        super().__init__(
            "Dropping attention weights needs a PRNG key.",
            expected="dropout_rng=jax.random.key(...)",
            got=f"dropout_rng=None with dropout_rate={rate}",
            fix="pass dropout_rng, or deterministic=True to drop nothing",
        )


class AttentionInputsError(OpArgumentError):
    """An attention layer was called with inputs that leave open what the keys or values are.

    Wrong: ``layer(q, inputs_v=v)``. Right: ``layer(q, k, v)``, ``layer(q, kv)`` or ``layer(q)``.
    """

    def __init__(self, what: str, *, path: str | None, expected: str, got: str):
        super().__init__(
            what,
            path=path,
            expected=expected,
            got=got,
            fix="pass inputs_k, and inputs_v where it differs from inputs_k",
        )


class MaskRankError(OpArgumentError):
    """Masks with different numbers of dimensions were combined.

    Wrong: ``combine_masks(jnp.ones((4, 4)), jnp.ones((2, 1, 4, 4)))``. Right: ``jnp.ones((1, 1, 4, 4))`` for the first.
    """

    def __init__(self, shapes: Sequence[Sequence[Any]]):
        super().__init__(
            "Masks that are combined must have the same number of dimensions.",
            expected="masks of one rank, such as (batch, heads, queries, keys)",
            got=f"shapes {', '.join(str(tuple(shape)) for shape in shapes)}",
            fix="add leading dimensions of size 1: mask[None]",
        )


class CacheShapeError(OpArgumentError):
    """Keys, values or queries do not fit the cache that they are to be used with.

    Wrong: a batch of 3 with a cache that was made for a batch of 2. Right: a cache for the batch that is decoded.
    """

    def __init__(self, name: str, *, expected: Any, got: Any, fix: str):
        super().__init__(f"The {name} does not fit the key-value cache.", expected=expected, got=got, fix=fix)


class CacheFullError(OpArgumentError):
    """More tokens were appended to a key-value cache than it has room for.

    Wrong: appending 9 tokens to a cache of length 8. Right: make the cache as long as the longest sequence to decode.
    """

    def __init__(self, used: int | None, new: int, length: int):
        free = length if used is None else max(length - used, 0)
        super().__init__(
            f"The key-value cache has no room for {new} more token(s).",
            expected=f"at most {free} token(s)",
            got=f"{new} token(s), with {0 if used is None else used} of {length} places in use",
            fix="make a longer cache: its length is that of the inputs it was initialized with",
        )


class RopeShapeError(OpArgumentError):
    """Rotary positions need an even depth, and one position per token.

    Wrong: ``rope(x)`` with ``x`` of shape ``(length, heads, 5)``. Right: a depth of 6.
    """

    def __init__(self, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(what, expected=expected, got=got, fix=fix)
