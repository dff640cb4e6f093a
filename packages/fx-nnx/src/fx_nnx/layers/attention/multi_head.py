"""Multi-head attention. The arithmetic is in `fx_core.ops.attention` and `fx_core.ops.cache`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors import ShapeMismatchError
from fx_core.errors.attention import attention_hook, attention_inputs, cache_shape
from fx_core.ops import attention, cache
from fx_core.ops.attention.hooks import accepted_options, takes
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype, PrecisionLike

from fx_nnx.errors import cache_missing, layer_call
from fx_nnx.layers.attention.described import described
from fx_nnx.layers.attention.functions import dot_product_attention
from fx_nnx.layers.dropout import chosen, stream_of
from fx_nnx.layers.linear import LinearGeneral
from fx_nnx.layers.norm import LayerNorm
from fx_nnx.layers.params import as_array, check_features, located, promote_dtype, value_of
from fx_nnx.locate import path_of
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream
from fx_nnx.variables.kinds import Cache

__all__ = ["MultiHeadAttention"]

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})


class MultiHeadAttention(Module):
    """Attention of several heads, each on its own projection of the inputs.

    Vaswani et al., *Attention Is All You Need*, 2017; with fewer heads of keys and values than of queries Ainslie et
    al., *GQA: Training Generalized Multi-Query Transformer Models*, 2023. The projections are ``query``, ``key`` and
    ``value``, `LinearGeneral` to ``(num_heads, depth)``, and ``out`` from there to the result.

    With ``decode``, keys and values of the tokens so far are kept in the `Cache` variables ``cached_key``,
    ``cached_value`` and ``cache_index``, which `init_cache` makes. A call takes any number of tokens: a whole prompt,
    or one at a time; they attend to all earlier ones and themselves. To have each row of a batch at a position of its
    own, after prompts of different lengths that were padded at the end, call ``cache_index.set_value`` with the
    lengths: the next tokens are written over the padding.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> layer, x = MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)), jnp.ones((1, 5, 8))
    >>> whole = layer(x, is_causal=True)
    >>> layer.set_view(decode=True, batch_size=1, max_length=5)
    >>> steps = [layer(x[:, :3]), layer(x[:, 3:4]), layer(x[:, 4:])]
    >>> bool(jnp.allclose(jnp.concatenate(steps, 1), whole, atol=1e-6)), int(layer.cache_index[...])
    (True, 5)

    Args:
      num_heads: heads of the queries; divides ``qkv_features``.
      in_features: features of the inputs.
      qkv_features: features of queries, all heads together; ``in_features`` if None.
      out_features: features of the result; ``in_features`` if None.
      num_kv_heads: heads of keys and values; divides ``num_heads``, which it is if None.
      in_kv_features: features of the inputs for keys and values; ``in_features`` if None.
      dtype: dtype of the computation (default: inferred from inputs and parameters).
      param_dtype: dtype of the parameters.
      broadcast_dropout: drop the same weights in the whole batch and all heads.
      dropout_rate: probability to drop an attention weight.
      deterministic: drop nothing; if None, weights are dropped until `fx_nnx.Module.eval`, as by `fx_nnx.Dropout`.
      precision: of the multiplications, see `jax.lax.Precision`.
      kernel_init: initializer for the kernels.
      out_kernel_init: initializer for that of ``out``; ``kernel_init`` if None.
      bias_init: initializer for the biases.
      out_bias_init: initializer for that of ``out``; ``bias_init`` if None.
      use_bias: whether the projections have biases.
      attention_fn: called with query, key, value, and those of the keyword arguments of `dot_product_attention` that it
        takes; also ``input_positions`` and ``key_positions`` if it takes them, see `dot_product_attention_with_rope`.
      decode: keep a cache; given here, in the call, or by `set_view`.
      normalize_qk: layer norms ``query_ln`` and ``key_ln`` of each head (Dehghani et al., *Scaling Vision Transformers
        to 22 Billion Parameters*, 2023).
      qkv_promote_dtype: replaces `fx_nnx.layers.promote_dtype` in the projections of the inputs.
      out_promote_dtype: replaces it in ``out``.
      ln_promote_dtype: replaces it in the norms.
      qkv_dot_general: replaces `jax.lax.dot_general` in the projections of the inputs.
      out_dot_general: replaces it in ``out``.
      qkv_dot_general_cls: makes such a replacement.
      out_dot_general_cls: likewise for ``out``.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      keep_rngs: whether to keep a fork of the stream ``dropout``, if there is dropout; else each call brings one.
      kernel_metadata: metadata of the kernels.
      out_kernel_metadata: metadata of that of ``out``.
      bias_metadata: metadata of the biases.
      out_bias_metadata: metadata of that of ``out``.
      query_ln_scale_metadata: metadata of the scale of ``query_ln``.
      key_ln_scale_metadata: metadata of the scale of ``key_ln``.

    Raises:
      ArgumentError: the features do not divide into the heads, or the heads into groups.
    """

    def __init__(
        self,
        num_heads: int,
        in_features: int,
        qkv_features: int | None = None,
        out_features: int | None = None,
        num_kv_heads: int | None = None,
        in_kv_features: int | None = None,
        *,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        broadcast_dropout: bool = True,
        dropout_rate: float = 0.0,
        deterministic: bool | None = None,
        precision: PrecisionLike = None,
        kernel_init: Initializer = default_kernel_init,
        out_kernel_init: Initializer | None = None,
        bias_init: Initializer = default_bias_init,
        out_bias_init: Initializer | None = None,
        use_bias: bool = True,
        attention_fn: Callable[..., jax.Array] = dot_product_attention,
        decode: bool | None = None,
        normalize_qk: bool = False,
        qkv_promote_dtype: Callable[..., Any] = promote_dtype,
        out_promote_dtype: Callable[..., Any] = promote_dtype,
        ln_promote_dtype: Callable[..., Any] = promote_dtype,
        qkv_dot_general: Callable[..., Any] | None = None,
        out_dot_general: Callable[..., Any] | None = None,
        qkv_dot_general_cls: Any = None,
        out_dot_general_cls: Any = None,
        rngs: Rngs,
        keep_rngs: bool = True,
        kernel_metadata: Mapping[str, Any] = _NO_METADATA,
        out_kernel_metadata: Mapping[str, Any] = _NO_METADATA,
        bias_metadata: Mapping[str, Any] = _NO_METADATA,
        out_bias_metadata: Mapping[str, Any] = _NO_METADATA,
        query_ln_scale_metadata: Mapping[str, Any] = _NO_METADATA,
        key_ln_scale_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        heads = attention.plan_heads(
            qkv_features or in_features, num_heads, num_kv_heads, out_features=out_features or in_features
        )
        self.num_heads, self.num_kv_heads, self.head_dim = heads.num_heads, heads.num_kv_heads, heads.depth
        self.in_features, self.out_features = in_features, heads.out_features
        self.qkv_features, self.in_kv_features = qkv_features or in_features, in_kv_features or in_features
        self.dtype, self.param_dtype, self.precision, self.use_bias = dtype, param_dtype, precision, use_bias
        self.broadcast_dropout, self.dropout_rate, self.deterministic = broadcast_dropout, dropout_rate, deterministic
        self.attention_fn, self.decode, self.normalize_qk = attention_fn, decode, normalize_qk
        shared = {"use_bias": use_bias, "dtype": dtype, "param_dtype": param_dtype, "precision": precision}
        inner = {
            "kernel_init": kernel_init,
            "bias_init": bias_init,
            "promote_dtype": qkv_promote_dtype,
            "dot_general": qkv_dot_general,
            "dot_general_cls": qkv_dot_general_cls,
            "kernel_metadata": kernel_metadata,
            "bias_metadata": bias_metadata,
            "rngs": rngs,
        }
        kv_heads = (heads.num_kv_heads, heads.depth)
        self.query = LinearGeneral(in_features, (num_heads, heads.depth), **shared, **inner)
        self.key = LinearGeneral(self.in_kv_features, kv_heads, **shared, **inner)
        self.value = LinearGeneral(self.in_kv_features, kv_heads, **shared, **inner)
        self.query_ln, self.key_ln = data(None), data(None)
        if normalize_qk:
            norm = {"use_bias": False, "dtype": dtype, "param_dtype": param_dtype, "promote_dtype": ln_promote_dtype}
            self.query_ln = LayerNorm(heads.depth, **norm, rngs=rngs, scale_metadata=query_ln_scale_metadata)
            self.key_ln = LayerNorm(heads.depth, **norm, rngs=rngs, scale_metadata=key_ln_scale_metadata)
        self.out = LinearGeneral(
            (num_heads, heads.depth),
            heads.out_features,
            axis=(-2, -1),
            **shared,
            kernel_init=out_kernel_init or kernel_init,
            bias_init=out_bias_init or bias_init,
            promote_dtype=out_promote_dtype,
            dot_general=out_dot_general,
            dot_general_cls=out_dot_general_cls,
            kernel_metadata=out_kernel_metadata,
            bias_metadata=out_bias_metadata,
            rngs=rngs,
        )
        stream = stream_of(rngs, "dropout", "MultiHeadAttention").fork() if keep_rngs and dropout_rate > 0 else None
        self.rngs = data(stream)
        self.cached_key, self.cached_value, self.cache_index = data(None), data(None), data(None)

    __describe__ = described

    @located
    def __call__(
        self,
        inputs_q: jax.Array,
        inputs_k: jax.Array | None = None,
        inputs_v: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        deterministic: bool | None = None,
        rngs: Rngs | RngStream | None = None,
        sow_weights: bool = False,
        decode: bool | None = None,
        is_causal: bool = False,
        out_sharding: Any = None,
        qkv_sharding: Any = None,
        input_positions: jax.Array | None = None,
    ) -> jax.Array:
        """Attends.

        Args:
          inputs_q: what queries are made of, shape ``(*batch, queries, in_features)``.
          inputs_k: what keys are made of, shape ``(*batch, keys, in_kv_features)``; ``inputs_q`` if None.
          inputs_v: what values are made of; ``inputs_k`` if None.
          mask: nonzero where a query may see a key; broadcasts to ``(*batch, heads, queries, keys)``. When decoding the
            number of keys is the length of the cache.
          deterministic: drop nothing, instead of what the layer says.
          rngs: streams or one stream for dropout, instead of the layer's.
          sow_weights: store the weights as ``attention_weights``, an `fx_nnx.Intermediate`.
          decode: whether to use the cache, instead of what the layer says.
          is_causal: each query sees the keys up to its own place only; so it is always when decoding.
          out_sharding: sharding of the result.
          qkv_sharding: sharding of queries, keys and values.
          input_positions: positions of the queries for an ``attention_fn`` that takes them, such as one with `RoPE`:
            shape ``(queries,)`` or ``(*batch, queries)``. When decoding they go on from the cache by default, and given
            ones shift those of all keys as much as those of the queries, as prompts padded at the front need.

        Returns:
          An array of shape ``(*batch, queries, out_features)``.

        Raises:
          ArgumentError: values without keys.
          ShapeMismatchError: the inputs have no axis of tokens, other numbers of features, or do not fit each other or
            the cache.
          NnxError: nothing says whether to decode or to drop, or there is no RNG stream, or no cache to decode with.
          CacheFullError: the cache has no room for so many tokens, as far as known while tracing.
          ShapeMismatchError: the mask does not broadcast to the weights.
        """
        keys_from, values_from = self._keys_and_values(inputs_q, inputs_k, inputs_v)
        query = self.query(inputs_q, out_sharding=qkv_sharding)
        key = self.key(keys_from, out_sharding=qkv_sharding)
        value = self.value(values_from, out_sharding=qkv_sharding)
        if self.query_ln is not None:
            query, key = self.query_ln(query), self.key_ln(key)
        options: dict[str, Any] = {"is_causal": is_causal, "input_positions": input_positions}
        if chosen("MultiHeadAttention", "decode", decode, self.decode):
            key, value, mask, options = self._decode(query, key, value, mask, input_positions)
        if input_positions is not None and not takes(self.attention_fn, "input_positions"):
            raise attention_hook(
                "input_positions was given to an attention function that knows no positions.",
                expected="an attention_fn with the argument input_positions",
                got=getattr(self.attention_fn, "__name__", repr(self.attention_fn)),
            )
        attended = self._attend(query, key, value, mask, deterministic, rngs, sow_weights, options)
        return self.out(attended, out_sharding=out_sharding)

    def init_cache(self, input_shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> None:
        """Creates an empty cache, in place of an earlier one.

        Args:
          input_shape: ``(*batch, length, in_features)``, where the length is that of the longest sequence.
          dtype: of keys and values.
        """
        made = cache.init_cache(input_shape[:-2], input_shape[-2], self.num_kv_heads, self.head_dim, dtype=dtype)
        self.cached_key, self.cached_value = Cache(made.key), Cache(made.value)
        self.cache_index = Cache(made.index)

    def set_view(
        self,
        deterministic: bool | None = None,
        decode: bool | None = None,
        batch_size: int | tuple[int, ...] | None = None,
        max_length: int | None = None,
    ) -> None:
        """Sets what the layer does from now on; None leaves it.

        Args:
          deterministic: drop nothing.
          decode: use the cache.
          batch_size: with ``max_length``, make a cache for so many sequences (an integer, or the batch dimensions).
          max_length: the length of that cache.

        Raises:
          NnxError: only one of ``batch_size`` and ``max_length`` is given.
        """
        if deterministic is not None:
            self.deterministic = deterministic
        if decode is not None:
            self.decode = decode
        if (batch_size is None) != (max_length is None):
            raise layer_call(
                "MultiHeadAttention",
                "a cache needs a batch size and a length.",
                expected="both of batch_size and max_length, or none",
                got=f"batch_size={batch_size}, max_length={max_length}",
                fix="pass both",
            )
        if batch_size is not None and max_length is not None:
            batch = (batch_size,) if isinstance(batch_size, int) else tuple(batch_size)
            self.init_cache((*batch, max_length, self.in_features), self.dtype or self.param_dtype)

    def _keys_and_values(
        self, inputs_q: jax.Array, inputs_k: jax.Array | None, inputs_v: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        if inputs_k is None:
            if inputs_v is not None:
                raise attention_inputs(
                    "inputs_v was given without inputs_k.",
                    path=path_of(self),
                    expected="inputs_k for both keys and values, or both",
                    got="inputs_v alone",
                )
            inputs_k = inputs_q
        inputs_v = inputs_k if inputs_v is None else inputs_v
        for layer, name, inputs in (
            (self.query, "inputs_q", inputs_q),
            (self.key, "inputs_k", inputs_k),
            (self.value, "inputs_v", inputs_v),
        ):
            kernel = getattr(layer, "kernel", None)
            if kernel is None:  # somebody's own layer, which checks for itself
                inputs = as_array(self, inputs, name)
            else:
                inputs = check_features(self, value_of(kernel).shape[0], inputs, name)
            if inputs.ndim < 2:
                fix = f"add the axis: {name}[None] for one token"
                wanted = "(*batch, tokens, features)"
                raise ShapeMismatchError(f"{name} has no axis of tokens.", expected=wanted, got=inputs.shape, fix=fix)
        return inputs_k, inputs_v

    def _decode(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array | None,
        positions: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array, dict[str, Any]]:
        """Keys and values of all tokens so far, the mask of what the new ones may see of them, and positions."""
        if self.cached_key is None:
            raise cache_missing("MultiHeadAttention", path_of(self))
        if query.shape[:-2] != key.shape[:-2]:
            raise cache_shape(
                "query",
                expected=f"{key.shape[-3]} token(s), as the keys: batch and tokens {key.shape[:-2]}",
                got=query.shape,
                fix="decoding is self-attention: queries and keys are made of the same tokens, or use decode=False",
            )
        before = cache.KVCache(self.cached_key.get_value(), self.cached_value.get_value(), self.cache_index.get_value())
        after = cache.append(before, key, value)
        self.cached_key.set_value(after.key)
        self.cached_value.set_value(after.value)
        self.cache_index.set_value(after.index)
        options: dict[str, Any] = {"is_causal": False}
        if takes(self.attention_fn, "input_positions"):
            here, keys = cache.shifted_positions(before, query.shape[-3], positions)
            options |= {"input_positions": here, "key_positions": keys}
        seen = cache.decoding_mask(before, query.shape[-3], query.shape[-2], mask)
        return after.key.astype(query.dtype), after.value.astype(query.dtype), seen, options

    def _attend(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        mask: jax.Array | None,
        deterministic: bool | None,
        rngs: Any,
        sow_weights: bool,
        options: dict[str, Any],
    ) -> jax.Array:
        deterministic = bool(self.deterministic if deterministic is None else deterministic) or self.dropout_rate <= 0
        options |= {
            "mask": mask,
            "broadcast_dropout": self.broadcast_dropout,
            "dropout_rng": None if deterministic else self._stream(rngs)(),
            "dropout_rate": self.dropout_rate,
            "deterministic": deterministic,
            "dtype": self.dtype,
            "precision": self.precision,
        }
        if options.get("input_positions") is None:
            options.pop("input_positions", None)
        causal, options = options["is_causal"], accepted_options(self.attention_fn, options)
        # A function that cannot do these has to say so, not to ignore the wish.
        if causal:
            options["is_causal"] = True
        if sow_weights:
            options["module"] = self
        return self.attention_fn(query, key, value, **options)

    def _stream(self, rngs: Any) -> RngStream:
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise layer_call(
                "MultiHeadAttention",
                "'rngs' must be given to the call of a layer that keeps none.",
                expected="an Rngs or an RngStream",
                got=None,
                fix="pass rngs=... to the call, make the layer with keep_rngs=True, or call eval()",
            )
        return stream_of(source, "dropout", "MultiHeadAttention")
