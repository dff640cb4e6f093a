"""Embeddings: rows of a matrix looked up by integers, and the product with that matrix."""

from typing import Any

import jax
import jax.numpy as jnp

from fx_core.array_node import ArrayNode
from fx_core.errors.kinds import DtypeError
from fx_core.ops.contract import dot_general
from fx_core.ops.initializers import default_embed_init
from fx_core.ops.params import ParamSpec

__all__ = ["attend", "check_indices", "embed_params", "lookup"]


def embed_params(num_embeddings: int, features: int) -> dict[str, ParamSpec]:
    """Returns the parameters of an embedding, by name.

    >>> embed_params(10, 4)["embedding"].shape
    (10, 4)
    """
    return {"embedding": ParamSpec((num_embeddings, features), default_embed_init, ("vocab", "embed"))}


def check_indices(indices: jax.Array) -> None:
    """Makes sure that indices are integers.

    Raises:
      DtypeError: they are not.
    """
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise DtypeError(
            "An embedding is looked up by integers.",
            expected="an array of signed or unsigned integers",
            got=indices.dtype,
            fix="cast the indices with .astype(jnp.int32); to multiply vectors with the embedding use attend",
        )


def lookup(embedding: jax.Array | ArrayNode, indices: jax.Array, out_sharding: Any = None) -> jax.Array:
    """Takes rows of an embedding.

    An index outside the table gives NaN, which is seen, instead of some other row, which is not. A table of one row is
    broadcast, whatever the index, which is faster than a gather.

    Args:
      embedding: shape ``(num, features)``.
      indices: integers of any shape.
      out_sharding: sharding of the result.

    Returns:
      An array of shape ``(*indices.shape, features)``.

    Raises:
      DtypeError: the indices are not integers.

    >>> import jax.numpy as jnp
    >>> lookup(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 1]))
    Array([[3., 4.], [3., 4.]], dtype=float32)
    """
    check_indices(indices)
    if isinstance(embedding, ArrayNode):
        rows = embedding.take(indices)
        return rows if out_sharding is None else jax.sharding.reshard(rows, out_sharding)
    if embedding.shape[0] == 1:
        row = embedding.reshape((1,) * indices.ndim + (embedding.shape[1],))
        rows = jnp.broadcast_to(row, (*indices.shape, embedding.shape[1]))
        return rows if out_sharding is None else jax.sharding.reshard(rows, out_sharding)
    if out_sharding is None:
        return jnp.take(embedding, indices, axis=0)
    return embedding.at[indices].get(mode="fill", fill_value=jnp.nan, out_sharding=out_sharding)


def attend(query: jax.Array, embedding: jax.Array | ArrayNode) -> jax.Array:
    """Compares vectors with every row of an embedding: logits that share weights with the input layer.

    Press and Wolf, *Using the Output Embedding to Improve Language Models*, 2017.

    Args:
      query: shape ``(..., features)``.
      embedding: shape ``(num, features)``.

    Returns:
      Inner products, shape ``(..., num)``.

    >>> import jax.numpy as jnp
    >>> attend(jnp.array([1.0, 1.0]), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    Array([3., 7.], dtype=float32)
    """
    return dot_general(query, embedding, (((query.ndim - 1,), (1,)), ((), ())))
