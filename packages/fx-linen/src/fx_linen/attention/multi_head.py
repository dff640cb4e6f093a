"""Multi-head attention. The arithmetic is in `fx_core.ops.attention` and `fx_core.ops.cache`."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors.attention import attention_inputs, cache_shape
from fx_core.ops import attention, cache
from fx_core.ops.attention.hooks import accepted_options
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer
from fx_core.traceback_util import warn_user
from fx_core.typing import Dtype, PrecisionLike

from fx_linen.attention.functions import dot_product_attention
from fx_linen.linear import DenseGeneral
from fx_linen.module import Module, compact, merge_param, nowrap
from fx_linen.normalization import LayerNorm

__all__ = ["MultiHeadAttention", "MultiHeadDotProductAttention", "SelfAttention"]


def _deprecated(text: str) -> None:
    warn_user(text, DeprecationWarning)


class MultiHeadDotProductAttention(Module):
    """Attention of several heads, each on its own projection of the inputs.

    Vaswani et al., *Attention Is All You Need*, 2017. The projections are the submodules ``query``, ``key`` and
    ``value``, `DenseGeneral` to ``(num_heads, depth)``, and ``out`` from there to the result.

    With ``decode``, keys and values of the tokens so far are kept in the collection ``cache``, as ``cached_key``,
    ``cached_value`` and ``cache_index``. ``init`` with inputs of the full length makes it; afterwards ``apply`` takes
    any number of tokens at a time, with ``cache`` mutable. They attend to all earlier ones and themselves. To have each
    row of a batch at a position of its own, after prompts of different lengths, replace ``cache_index`` by an array
    with an index per row.

    Attributes:
      num_heads: number of heads; divides ``qkv_features``.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of the parameters.
      qkv_features: features of queries, keys and values, all heads together; those of the inputs if None.
      out_features: features of the result; those of the inputs if None.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rate: probability to drop a weight.
      deterministic: drop nothing; given here or in the call, where the rate is not zero.
      precision: of the multiplications, see `jax.lax.Precision`.
      kernel_init: initializer for the kernels.
      out_kernel_init: initializer for that of ``out``; ``kernel_init`` if None.
      bias_init: initializer for the biases.
      out_bias_init: initializer for that of ``out``; ``bias_init`` if None.
      use_bias: whether the projections have biases.
      attention_fn: called with query, key, value, and those of the keyword arguments of `dot_product_attention` that it
        takes.
      decode: keep a cache.
      normalize_qk: layer norms ``query_ln`` and ``key_ln`` of each head (Dehghani et al., *Scaling Vision Transformers
        to 22 Billion Parameters*, 2023).
      force_fp32_for_softmax: take the softmax in float32.
      qkv_dot_general: replaces `jax.lax.dot_general` in the projections of the inputs.
      out_dot_general: replaces it in ``out``.
      qkv_dot_general_cls: makes such a replacement.
      out_dot_general_cls: likewise for ``out``.
      qk_attn_weights_einsum_cls: makes a replacement of the einsum of queries and keys.
      attn_weights_value_einsum_cls: makes a replacement of the einsum of weights and values.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> layer, x = nn.MultiHeadDotProductAttention(num_heads=2), jnp.ones((3, 5, 8))
    >>> y, variables = layer.init_with_output(jax.random.key(0), x)
    >>> y.shape, variables["params"]["query"]["kernel"].shape
    ((3, 5, 8), (8, 2, 4))
    """

    num_heads: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    qkv_features: int | None = None
    out_features: int | None = None
    broadcast_dropout: bool = True
    dropout_rate: float = 0.0
    deterministic: bool | None = None
    precision: PrecisionLike = None
    kernel_init: Initializer = default_kernel_init
    out_kernel_init: Initializer | None = None
    bias_init: Initializer = default_bias_init
    out_bias_init: Initializer | None = None
    use_bias: bool = True
    attention_fn: Callable[..., jax.Array] = dot_product_attention
    decode: bool = False
    normalize_qk: bool = False
    force_fp32_for_softmax: bool = False
    qkv_dot_general: Callable[..., jax.Array] | None = None
    out_dot_general: Callable[..., jax.Array] | None = None
    qkv_dot_general_cls: Any = None
    out_dot_general_cls: Any = None
    qk_attn_weights_einsum_cls: Callable[..., Callable[..., jax.Array]] | None = None
    attn_weights_value_einsum_cls: Callable[..., Callable[..., jax.Array]] | None = None

    @compact
    def __call__(
        self,
        inputs_q: jax.Array,
        inputs_k: jax.Array | None = None,
        inputs_v: jax.Array | None = None,
        *,
        inputs_kv: jax.Array | None = None,
        mask: jax.Array | None = None,
        deterministic: bool | None = None,
        dropout_rng: jax.Array | None = None,
        sow_weights: bool = False,
    ) -> jax.Array:
        """Attends.

        Args:
          inputs_q: what queries are made of, shape ``(*batch, queries, features)``.
          inputs_k: what keys are made of, shape ``(*batch, keys, features)``; ``inputs_q`` if None.
          inputs_v: what values are made of; ``inputs_k`` if None.
          inputs_kv: ``inputs_k`` and ``inputs_v`` in one, the older way to say so.
          mask: nonzero where a query may see a key; broadcasts to ``(*batch, heads, queries, keys)``. With ``decode``
            the number of keys is the length of the cache.
          deterministic: drop nothing, if the constructor did not say.
          dropout_rng: a key to use instead of the stream ``dropout``.
          sow_weights: store the weights as ``attention_weights`` in the collection ``intermediates``.

        Returns:
          An array of shape ``(*batch, queries, out_features)``.

        Raises:
          ArgumentError: it is not clear what keys or values are made of.
          ArgumentError: ``num_heads`` does not divide the features.
          ShapeMismatchError: the inputs do not fit each other.
          ShapeMismatchError: the mask does not broadcast to the weights.
          ShapeMismatchError: the inputs do not fit the cache.
          CacheFullError: the cache has no room for so many tokens, as far as known while tracing.
        """
        keys_from, values_from = self._keys_and_values(inputs_q, inputs_k, inputs_v, inputs_kv)
        if inputs_v is not None and jnp.ndim(inputs_v) > 1 and inputs_v.shape[-1] == inputs_v.shape[-2]:
            _deprecated(
                f"An array of shape {inputs_v.shape} came as inputs_v, which looks like a mask: the function signature "
                "of MultiHeadDotProductAttention's `__call__` method has changed, and a mask is passed by name."
            )
        features = features_of(inputs_q, "queries")
        heads = attention.plan_heads(
            self.qkv_features or features, self.num_heads, out_features=self.out_features or features
        )
        project = functools.partial(
            DenseGeneral,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
        )
        make_head = functools.partial(
            project,
            (heads.num_heads, heads.depth),
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dot_general=self.qkv_dot_general,
            dot_general_cls=self.qkv_dot_general_cls,
        )
        query = make_head(name="query")(inputs_q)
        key = make_head(name="key")(keys_from)
        value = make_head(name="value")(values_from)
        if self.normalize_qk:
            norm = functools.partial(LayerNorm, use_bias=False, dtype=self.dtype, param_dtype=self.param_dtype)
            query, key = norm(name="query_ln")(query), norm(name="key_ln")(key)
        if self.decode:
            key, value, mask = self._decode(query, key, value, mask)
        attended = self._attend(query, key, value, mask, deterministic, dropout_rng, sow_weights)
        return project(
            heads.out_features,
            axis=(-2, -1),
            kernel_init=self.out_kernel_init or self.kernel_init,
            bias_init=self.out_bias_init or self.bias_init,
            dot_general=self.out_dot_general,
            dot_general_cls=self.out_dot_general_cls,
            name="out",
        )(attended)

    @nowrap
    def _keys_and_values(
        self,
        inputs_q: jax.Array,
        inputs_k: jax.Array | None,
        inputs_v: jax.Array | None,
        inputs_kv: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        if inputs_kv is not None:
            if inputs_k is not None or inputs_v is not None:
                raise attention_inputs(
                    "inputs_kv was given together with inputs_k or inputs_v.",
                    path="/" + "/".join(self.path),
                    expected="inputs_kv alone, or inputs_k and inputs_v",
                    got="both",
                )
            _deprecated("The inputs_kv arg will be deprecated soon. Write inputs_k, which serves for values, too.")
            return inputs_kv, inputs_kv
        if inputs_k is None:
            if inputs_v is not None:
                raise attention_inputs(
                    "inputs_v was given without inputs_k.",
                    path="/" + "/".join(self.path),
                    expected="inputs_k, with or without inputs_v",
                    got="inputs_k=None",
                )
            inputs_k = inputs_q
        return inputs_k, inputs_k if inputs_v is None else inputs_v

    @nowrap
    def _decode(
        self, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Keys and values of all tokens so far, and the mask of what the new ones may see of them."""
        ready = self.has_variable("cache", "cached_key")
        cached_key = self.variable("cache", "cached_key", jnp.zeros, key.shape, key.dtype)
        cached_value = self.variable("cache", "cached_value", jnp.zeros, value.shape, value.dtype)
        cache_index = self.variable("cache", "cache_index", jnp.zeros, (), jnp.int32)
        if not ready:  # init, which sees all tokens at once
            return key, value, mask
        if query.shape[:-1] != key.shape[:-1]:
            raise cache_shape(
                "query",
                expected=f"{key.shape[-3]} token(s), as the keys: shape {(*key.shape[:-1], query.shape[-1])}",
                got=query.shape,
                fix="decoding is self-attention: leave inputs_k and inputs_v out, or use decode=False",
            )
        before = cache.KVCache(cached_key.value, cached_value.value, jnp.asarray(cache_index.value))
        after = cache.append(before, key, value)
        cached_key.value, cached_value.value, cache_index.value = after.key, after.value, after.index
        return after.key, after.value, cache.decoding_mask(before, query.shape[-3], self.num_heads, mask)

    @nowrap
    def _attend(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array | None,
        deterministic: bool | None,
        dropout_rng: jax.Array | None,
        sow_weights: bool,
    ) -> jax.Array:
        if self.dropout_rate > 0.0:
            deterministic = merge_param("deterministic", self.deterministic, deterministic)
            if not deterministic and dropout_rng is None:
                dropout_rng = self.make_rng("dropout")
        else:
            deterministic = True
        make_weights_einsum, make_value_einsum = self.qk_attn_weights_einsum_cls, self.attn_weights_value_einsum_cls
        options: dict[str, Any] = {
            "mask": mask,
            "broadcast_dropout": self.broadcast_dropout,
            "dropout_rng": dropout_rng,
            "dropout_rate": self.dropout_rate,
            "deterministic": deterministic,
            "dtype": self.dtype,
            "precision": self.precision,
            "force_fp32_for_softmax": self.force_fp32_for_softmax,
            "qk_attn_weights_einsum": None if make_weights_einsum is None else make_weights_einsum(),
            "attn_weights_value_einsum": None if make_value_einsum is None else make_value_einsum(),
        }
        options = accepted_options(self.attention_fn, options)
        if sow_weights:  # a function that cannot store them has to say so, not to ignore the wish
            options["module"] = self
        return self.attention_fn(query, key, value, **options)


class MultiHeadAttention(MultiHeadDotProductAttention):
    """Attention of several heads: another name of `MultiHeadDotProductAttention`.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> queries, keys = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 6))
    >>> nn.MultiHeadAttention(num_heads=2).init_with_output(jax.random.key(0), queries, keys)[0].shape
    (3, 5, 8)
    """


class SelfAttention(MultiHeadDotProductAttention):
    """Attention of a sequence to itself: the old name of `MultiHeadDotProductAttention` with one input.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> x, layer = jnp.ones((3, 5, 8)), nn.MultiHeadDotProductAttention(num_heads=2)  # what to write
    >>> layer.init_with_output(jax.random.key(0), x, mask=nn.make_causal_mask(x[..., 0]))[0].shape
    (3, 5, 8)
    """

    @compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs_q: jax.Array,
        mask: jax.Array | None = None,
        deterministic: bool | None = None,
        dropout_rng: jax.Array | None = None,
        sow_weights: bool = False,
    ) -> jax.Array:
        """Attends.

        Args:
          inputs_q: shape ``(*batch, length, features)``.
          mask: nonzero where a query may see a key; broadcasts to ``(*batch, heads, length, length)``.
          deterministic: drop nothing, if the constructor did not say.
          dropout_rng: a key to use instead of the stream ``dropout``.
          sow_weights: store the weights as ``attention_weights`` in the collection ``intermediates``.

        Returns:
          An array of shape ``(*batch, length, out_features)``.

        Raises:
          ArgumentError: one of its subclasses, see `MultiHeadDotProductAttention`.
        """
        _deprecated(
            "SelfAttention will be deprecated soon. MultiHeadDotProductAttention(...)(inputs_q, mask=mask) is the same."
        )
        return super().__call__(
            inputs_q, mask=mask, deterministic=deterministic, dropout_rng=dropout_rng, sow_weights=sow_weights
        )
