"""Which query may look at which key."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fx_core.errors.kinds import ShapeMismatchError
from fx_core.typing import Dtype

__all__ = ["causal", "combine_masks", "make_attention_mask", "make_causal_mask"]


def make_attention_mask(
    query_input: Any,
    key_input: Any,
    pairwise_fn: Callable[..., Any] = jnp.multiply,
    extra_batch_dims: int = 0,
    dtype: Dtype = jnp.float32,
) -> jax.Array:
    """Compares every query with every key.

    Args:
      query_input: shape ``(*batch, queries)``, such as 1 for tokens and 0 for padding.
      key_input: shape ``(*batch, keys)``.
      pairwise_fn: elementwise function of a query's value and a key's.
      extra_batch_dims: how many dimensions of size 1 to put in front.
      dtype: of the mask.

    Returns:
      A mask of shape ``(*ones, *batch, 1, queries, keys)``; the 1 stands for the heads.

    >>> import jax.numpy as jnp
    >>> make_attention_mask(jnp.array([1, 1]), jnp.array([1, 1, 0]), dtype=bool)
    Array([[[ True,  True, False],
            [ True,  True, False]]], dtype=bool)
    """
    query_input, key_input = jnp.asarray(query_input), jnp.asarray(key_input)
    if not (query_input.ndim and key_input.ndim):
        raise ShapeMismatchError(
            "A mask is made of a value per query and per key.",
            expected="arrays of shape (*batch, queries) and (*batch, keys)",
            got=f"{query_input.shape} and {key_input.shape}",
        )
    mask = jnp.expand_dims(pairwise_fn(query_input[..., :, None], key_input[..., None, :]), axis=-3)
    return jnp.expand_dims(mask, axis=tuple(range(extra_batch_dims))).astype(dtype)


def make_causal_mask(x: Any, extra_batch_dims: int = 0, dtype: Dtype = jnp.float32) -> jax.Array:
    """Lets every query see the keys up to its own position.

    Args:
      x: any array of shape ``(*batch, length)``; only the shape counts.
      extra_batch_dims: how many dimensions of size 1 to put in front.
      dtype: of the mask.

    Returns:
      A mask of shape ``(*ones, *batch, 1, length, length)``.

    >>> import jax.numpy as jnp
    >>> make_causal_mask(jnp.zeros(3), dtype=int)
    Array([[[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]]], dtype=int32)
    """
    shape = jnp.shape(x)
    positions = jnp.broadcast_to(jnp.arange(shape[-1], dtype=jnp.int32), shape)
    return make_attention_mask(positions, positions, jnp.greater_equal, extra_batch_dims, dtype)


def combine_masks(*masks: Any, dtype: Dtype = jnp.float32) -> jax.Array | None:
    """Allows what all masks allow.

    Args:
      *masks: masks of one rank that broadcast to each other; None is left out.
      dtype: dtype of the result.

    Returns:
      The combined mask, or None if there is none.

    Raises:
      ShapeMismatchError: the masks have different numbers of dimensions.

    >>> import jax.numpy as jnp
    >>> combine_masks(jnp.array([1, 1, 0]), None, jnp.array([0, 1, 1]))
    Array([0., 1., 0.], dtype=float32)
    """
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    if len({np.ndim(mask) for mask in given}) > 1:
        raise ShapeMismatchError(
            "Masks that are combined must have the same number of dimensions.",
            expected="masks of one rank, such as (batch, heads, queries, keys)",
            got=f"shapes {', '.join(str(tuple(shape)) for shape in [np.shape(mask) for mask in given])}",
            fix="add leading dimensions of size 1: mask[None]",
        )
    combined, *others = given
    for mask in others:
        combined = jnp.logical_and(combined, mask)
    return jnp.asarray(combined, dtype)


def causal(queries: int, keys: int) -> jax.Array:
    """Returns the mask under which query ``i`` sees the keys up to ``i``, shape ``(queries, keys)``."""
    return jnp.tril(jnp.ones((queries, keys), bool))
