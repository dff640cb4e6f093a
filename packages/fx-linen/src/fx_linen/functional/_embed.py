"""Embeddings of a scope."""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core import struct
from fx_core.ops import embed as embed_ops
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import default_embed_init
from fx_core.ops.params import Initializer
from fx_core.scope import Scope
from fx_core.typing import Dtype

__all__ = ["Embedding", "embed", "embedding"]


def embed(
    scope: Scope,
    inputs: jax.Array,
    num_embeddings: int,
    features: int,
    dtype: Dtype | None = None,
    param_dtype: Dtype = jnp.float32,
    embedding_init: Initializer = default_embed_init,
) -> jax.Array:
    """Looks up a vector for each integer, see `fx_linen.Embed`.

    Args:
      scope: gets ``embedding`` (num_embeddings, features).
      inputs: integers of any shape.
      num_embeddings: number of vectors.
      features: their size.
      dtype: of the result; None follows the parameter.
      param_dtype: dtype of the parameter.
      embedding_init: initializer for the vectors.

    Returns:
      An array of shape ``(*inputs.shape, features)``.

    Raises:
      DtypeError: the inputs are not integers.
    """
    shape = embed_ops.embed_params(num_embeddings, features)["embedding"].shape
    table = scope.param("embedding", embedding_init, shape, param_dtype)
    (table,) = promote_dtype(table, dtype=dtype, inexact=False)
    return embed_ops.lookup(table, jnp.asarray(inputs))


@struct.dataclass
class Embedding:
    """A table of vectors, to look up and to compare with.

    Attributes:
      table: shape ``(num_embeddings, features)``.
    """

    table: Any

    def lookup(self, indices: Any) -> jax.Array:
        """Returns the vectors of integers: shape ``(*indices.shape, features)``.

        Raises:
          DtypeError: the indices are not integers.
        """
        return embed_ops.lookup(self.table, jnp.asarray(indices))

    def attend(self, query: Any) -> jax.Array:
        """Returns the inner products of ``(..., features)`` with all vectors: shape ``(..., num_embeddings)``."""
        return embed_ops.attend(*promote_dtype(query, self.table))


def embedding(
    scope: Scope,
    num_embeddings: int,
    features: int,
    init_fn: Initializer = default_embed_init,
    *,
    param_dtype: Dtype = jnp.float32,
) -> Embedding:
    """Returns a table to look up vectors in, which a decoder can share.

    Args:
      scope: gets ``table`` (num_embeddings, features).
      num_embeddings: number of vectors.
      features: their size.
      init_fn: initializer for the vectors.
      param_dtype: dtype of the parameter.

    >>> import jax, jax.numpy as jnp
    >>> from fx_core import init
    >>> from fx_linen import functional as F
    >>> y, variables = init(lambda scope, x: F.embedding(scope, 5, 2).lookup(x))(jax.random.key(0), jnp.array([1, 4]))
    >>> y.shape, variables["params"]["table"].shape
    ((2, 2), (5, 2))
    """
    shape = embed_ops.embed_params(num_embeddings, features)["embedding"].shape
    return Embedding(scope.param("table", init_fn, shape, param_dtype))
