"""The keys and values of tokens seen so far, for decoding a sequence a few tokens at a time.

A cache is filled from the front. All rows of the batch may be equally far (the index is a scalar), or each at its own
position (an index per row): after prompts of different lengths, padded at the end, set the index to the lengths, and
the next tokens overwrite the padding.

>>> import jax.numpy as jnp
>>> cache = init_cache((2,), 4, 1, 1)
>>> cache = append(cache, jnp.ones((2, 3, 1, 1)), jnp.ones((2, 3, 1, 1)))
>>> cache = cache.replace(index=jnp.array([3, 1]))  # the second row was padded
>>> cache = append(cache, jnp.full((2, 1, 1, 1), 9.0), jnp.full((2, 1, 1, 1), 9.0))
>>> cache.key[..., 0, 0]
Array([[1., 1., 1., 9.],
       [1., 9., 1., 0.]], dtype=float32)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from fx_core import struct
from fx_core.errors.attention import CacheFullError, cache_shape
from fx_core.ops.attention.plan import fits_weights
from fx_core.ops.attention.weights import full_rank
from fx_core.typing import Dtype

__all__ = ["KVCache", "append", "decoding_mask", "init_cache", "positions", "shifted_positions", "visible"]


class KVCache(struct.PyTreeNode):
    """Keys and values so far.

    Attributes:
      key: shape ``(*batch, length, heads, depth)``.
      value: shape ``(*batch, length, heads, value_depth)``.
      index: int32, how many places are in use: a scalar, or one per row with shape ``batch``.
    """

    key: jax.Array
    value: jax.Array
    index: jax.Array


def init_cache(
    batch: Sequence[int],
    length: int,
    num_heads: int,
    depth: int,
    value_depth: int | None = None,
    *,
    dtype: Dtype = jnp.float32,
    per_row: bool = False,
) -> KVCache:
    """Creates an empty cache.

    Args:
      batch: sizes of the batch dimensions.
      length: how many tokens it has room for.
      num_heads: heads of keys and values.
      depth: features of a key.
      value_depth: features of a value; ``depth`` if None.
      dtype: of keys and values.
      per_row: whether each row has an index of its own.

    >>> jax.tree.map(jnp.shape, init_cache((2,), 16, 4, 8, per_row=True))
    KVCache(key=(2, 16, 4, 8), value=(2, 16, 4, 8), index=(2,))
    """
    shape = (*batch, length, num_heads)
    return KVCache(
        jnp.zeros((*shape, depth), dtype),
        jnp.zeros((*shape, depth if value_depth is None else value_depth), dtype),
        jnp.zeros(tuple(batch) if per_row else (), jnp.int32),
    )


def append(cache: KVCache, key: jax.Array, value: jax.Array) -> KVCache:
    """Writes keys and values behind those that are there.

    Whether a full cache can be noticed depends on the index: an index with a value (outside of `jax.jit`) is checked. A
    traced one cannot be: the last places are then written over.

    Args:
      cache: the cache so far.
      key: any number of new tokens, shape ``(*batch, tokens, heads, depth)``.
      value: shape ``(*batch, tokens, heads, value_depth)``.

    Returns:
      The new cache, in the dtype of the old one.

    Raises:
      ShapeMismatchError: the arrays do not fit the cache.
      CacheFullError: there is no room for so many tokens, as far as known.

    >>> import jax.numpy as jnp
    >>> cache = append(init_cache((), 3, 1, 1), jnp.ones((2, 1, 1)), jnp.ones((2, 1, 1)))
    >>> cache.key.ravel(), cache.index
    (Array([1., 1., 0.], dtype=float32), Array(2, dtype=int32))
    """
    tokens = _check_shapes(cache, key, value)
    length = cache.key.shape[-3]
    used = _known_maximum(cache.index)
    if tokens > length or (used is not None and used + tokens > length):
        raise _cache_full(used, tokens, length)
    return KVCache(
        _write(cache.key, key, cache.index),
        _write(cache.value, value, cache.index),
        cache.index + tokens,
    )


def visible(index: jax.Array, tokens: int, length: int) -> jax.Array:
    """Returns which places new tokens may attend to: all before them, and their own.

    Args:
      index: of the cache before they were appended.
      tokens: number of new tokens.
      length: of the cache.

    Returns:
      Booleans of shape ``(*index.shape, 1, tokens, length)``; the 1 stands for the heads.

    >>> import jax.numpy as jnp
    >>> visible(jnp.array(1), 2, 4)
    Array([[[ True,  True, False, False],
            [ True,  True,  True, False]]], dtype=bool)
    """
    now = positions(index, tokens)[..., None, :, None]
    return lax.expand_dims(jnp.arange(length, dtype=now.dtype), range(now.ndim - 1)) <= now


def decoding_mask(cache: KVCache, tokens: int, num_heads: int, mask: jax.Array | None = None) -> jax.Array:
    """Restricts a mask to what new tokens may attend to.

    Args:
      cache: the cache before they were appended.
      tokens: number of new tokens.
      num_heads: heads of the queries.
      mask: further restrictions; broadcasts to ``(*batch, num_heads, tokens, length)``.

    Returns:
      Booleans of shape ``(*batch, 1 or num_heads, tokens, length)``.

    Raises:
      ShapeMismatchError: the mask does not broadcast.

    >>> decoding_mask(init_cache((1,), 3, 2, 8), 1, 2, jnp.array([0, 1, 1])).tolist()
    [[[[False, False, False]]]]
    """
    batch, length = cache.key.shape[:-3], cache.key.shape[-3]
    seen = full_rank(visible(cache.index, tokens, length), len(batch) + 3)
    if mask is not None:
        fits_weights("mask", jnp.shape(mask), (*batch, num_heads, tokens, length))
        seen = jnp.logical_and(seen, full_rank(mask, seen.ndim))
    return jnp.broadcast_to(seen, (*batch, *seen.shape[-3:]))


def positions(index: jax.Array, tokens: int) -> jax.Array:
    """Returns the positions of new tokens in their sequences, such as rotary embeddings need.

    Args:
      index: of the cache before they are appended.
      tokens: number of new tokens.

    Returns:
      Integers of shape ``(*index.shape, tokens)``.

    >>> import jax.numpy as jnp
    >>> positions(jnp.array([0, 5]), 3)
    Array([[0, 1, 2],
           [5, 6, 7]], dtype=int32)
    """
    index = jnp.asarray(index)[..., None]
    return index + lax.expand_dims(jnp.arange(tokens, dtype=index.dtype), range(index.ndim - 1))


def shifted_positions(cache: KVCache, tokens: int, given: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns the positions of new tokens and those of all places of a cache.

    A place is a position, unless the caller says otherwise: then the position of the last new token says by how much
    the positions of its sequence are shifted, such as by a prompt that is padded at the front.

    Args:
      cache: the cache before the tokens are appended.
      tokens: number of new tokens.
      given: their positions, shape ``(tokens,)`` or ``(*batch, tokens)``; counted on from the cache if None.

    Returns:
      Positions of the tokens, shape ``(tokens,)`` or ``(*batch, tokens)``, and of the places, ``(length,)`` or
      ``(*batch, length)``.

    >>> cache = init_cache((2,), 4, 1, 1).replace(index=jnp.array(2))
    >>> shifted_positions(cache, 1)
    (Array([2], dtype=int32), Array([0, 1, 2, 3], dtype=int32))
    >>> shifted_positions(cache, 1, jnp.array([[2], [1]]))[1]  # the second prompt has one token of padding in front
    Array([[ 0,  1,  2,  3],
           [-1,  0,  1,  2]], dtype=int32)
    """
    places = jnp.arange(cache.key.shape[-3], dtype=jnp.int32)
    own = positions(cache.index, tokens)
    if given is None:
        return own, places
    given = jnp.asarray(given)
    rank = max(own.ndim, given.ndim)
    own, wide = full_rank(own, rank), full_rank(given, rank)
    return given, full_rank(places, rank) + (wide[..., -1:] - own[..., -1:])


def _check_shapes(cache: KVCache, key: jax.Array, value: jax.Array) -> int:
    """The number of new tokens."""
    tokens = key.shape[-3] if key.ndim >= 3 else None
    for name, new, old in (("key", key, cache.key), ("value", value, cache.value)):
        expected = (*old.shape[:-3], tokens, *old.shape[-2:])
        if tokens is None or new.shape != expected:
            shown = ("tokens" if size is None else size for size in (*expected[:-3], tokens, *expected[-2:]))
            raise cache_shape(
                f"new {name}",
                expected=f"({', '.join(map(str, shown))}), like the cache of {old.shape}",
                got=new.shape,
                fix="make the cache for the batch and heads that are decoded; only the number of tokens may vary",
            )
    batch = cache.key.shape[:-3]
    if cache.index.shape not in ((), batch):
        raise cache_shape(
            "index",
            expected=f"a scalar, or one index per row of shape {batch}",
            got=cache.index.shape,
            fix="give every row of the batch an index, or all rows the same",
        )
    assert tokens is not None
    return tokens


def _known_maximum(index: jax.Array) -> int | None:
    if isinstance(index, Tracer) or not index.is_fully_addressable or not index.size:
        return None
    return int(np.max(np.asarray(index)))


def _write(old: jax.Array, new: jax.Array, index: jax.Array) -> jax.Array:
    def write_row(old: jax.Array, new: jax.Array, index: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(old, new, index, axis=old.ndim - 3)

    for _ in range(index.ndim):
        write_row = jax.vmap(write_row)
    return write_row(old, new.astype(old.dtype), index)


def _cache_full(used: int | None, new: int, length: int) -> CacheFullError:
    free = length if used is None else max(length - used, 0)
    return CacheFullError(
        f"The key-value cache has no room for {new} more token(s).",
        expected=f"at most {free} token(s)",
        got=f"{new} token(s), with {0 if used is None else used} of {length} places in use",
        fix="make a longer cache: its length is that of the inputs it was initialized with",
    )
