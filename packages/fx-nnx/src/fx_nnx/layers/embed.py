"""Embeddings."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import embed
from fx_core.ops.initializers import default_embed_init
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype

from fx_nnx.layers.params import as_array, check_features, fetch, located, make_param, promote_dtype, value_of
from fx_nnx.modules.module import Module
from fx_nnx.rngs.rngs import Rngs

__all__ = ["Embed"]


class Embed(Module):
    """A table of vectors, looked up by integers.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> Embed(5, 3, rngs=nnx.Rngs(0))(jnp.array([[0, 4]])).shape
    (1, 2, 3)

    Args:
      num_embeddings: number of vectors.
      features: size of each.
      dtype: of the result; by default that of the table.
      param_dtype: dtype of the table.
      embedding_init: initializer for the table, of shape ``(num_embeddings, features)``.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      embedding_metadata: metadata of the variable ``embedding``.
    """

    def __init__(
        self,
        num_embeddings: int,
        features: int,
        *,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        embedding_init: Initializer = default_embed_init,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        embedding_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        shape = embed.embed_params(num_embeddings, features)["embedding"].shape
        self.embedding = make_param(rngs, embedding_init, shape, param_dtype, embedding_metadata)
        self.num_embeddings, self.features = num_embeddings, features
        self.dtype = value_of(self.embedding).dtype if dtype is None else dtype
        self.param_dtype, self.promote_dtype = param_dtype, promote_dtype

    def __describe__(self) -> dict[str, Any]:
        return {"dtype": None if self.dtype == value_of(self.embedding).dtype else self.dtype}

    @located
    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Looks vectors up.

        Args:
          inputs: integers of any shape; one outside the table gives NaN.
          out_sharding: sharding of the result.

        Returns:
          An array of shape ``(*inputs.shape, features)``.

        Raises:
          DtypeError: the inputs are not integers.
        """
        inputs = as_array(self, inputs)
        (table,) = self.promote_dtype((fetch(self, "embedding"),), dtype=self.dtype, inexact=False)
        return embed.lookup(table, inputs, out_sharding)

    def attend(self, query: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Returns the inner products with every vector, as the logits of a tied output layer.

        Args:
          query: shape ``(..., features)``.
          out_sharding: sharding of the result.

        Returns:
          An array of shape ``(..., num_embeddings)``.

        Raises:
          ShapeMismatchError: the query has another number of features.
        """
        query = check_features(self, value_of(self.embedding).shape[-1], query, "query")
        query, table = self.promote_dtype((query, fetch(self, "embedding")), dtype=self.dtype)
        logits = embed.attend(query, table)
        return logits if out_sharding is None else jax.sharding.reshard(logits, out_sharding)
