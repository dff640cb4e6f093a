"""Low-rank adaptation: a small trainable change of a large frozen layer."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from fx_core.ops.initializers import he_uniform, zeros
from fx_core.ops.linear import low_rank
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype

from fx_nnx.errors import layer_call
from fx_nnx.layers.linear import Linear
from fx_nnx.layers.params import check_features, fetch, located, promote_dtype, value_of
from fx_nnx.modules.module import Module
from fx_nnx.objects.fields import data
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.variables.kinds import Param
from fx_nnx.variables.variable import Variable

__all__ = ["LoRA", "LoRALinear", "LoRAParam"]

A = TypeVar("A")

_NO_METADATA: Mapping[str, Any] = MappingProxyType({})
_default_a_init: Initializer = he_uniform()


class LoRAParam(Param[A]):
    """A weight of a low-rank adapter: ``wrt=nnx.LoRAParam`` trains adapters only.

    >>> import fx_nnx as nnx
    >>> layer = nnx.LoRALinear(2, 3, lora_rank=1, rngs=nnx.Rngs(0))
    >>> list(nnx.state(layer, nnx.LoRAParam))
    ['lora']
    """

    __slots__ = ()


class LoRA(Module):
    """Adds ``x @ a @ b`` to the result of a layer, where ``a`` and ``b`` are small.

    Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021. At first ``b`` is zero, so that the layer is
    what it was.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> base, x = Linear(3, 4, rngs=nnx.Rngs(0)), jnp.ones((2, 3))
    >>> layer = LoRA(3, 2, 4, base_module=base, rngs=nnx.Rngs(1))
    >>> bool((layer(x) == base(x)).all()), layer.lora_a.shape, layer.lora_b.shape
    (True, (3, 2), (2, 4))

    Args:
      in_features: size of the last axis of the input.
      lora_rank: rank of the change.
      out_features: size of the last axis of the output.
      base_module: the layer, or any function; None for the change alone.
      dtype: what to compute the change in, and of the inputs of the layer; by default what input and parameters
        promote to.
      param_dtype: dtype of the parameters.
      a_initializer: initializer for ``lora_a``, of shape ``(in_features, lora_rank)``.
      b_initializer: initializer for ``lora_b``, of shape ``(lora_rank, out_features)``.
      lora_param_type: type of these variables.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      a_metadata: metadata of ``lora_a``.
      b_metadata: metadata of ``lora_b``.
    """

    def __init__(
        self,
        in_features: int,
        lora_rank: int,
        out_features: int,
        *,
        base_module: Callable[..., Any] | None = None,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        a_initializer: Initializer = _default_a_init,
        b_initializer: Initializer = zeros,
        lora_param_type: type[Variable[Any]] = LoRAParam,
        promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        a_metadata: Mapping[str, Any] = _NO_METADATA,
        b_metadata: Mapping[str, Any] = _NO_METADATA,
    ):
        self.in_features, self.out_features, self.lora_rank = in_features, out_features, lora_rank
        self.dtype, self.param_dtype, self.promote_dtype = dtype, param_dtype, promote_dtype
        self.lora_param_type = lora_param_type
        self.base_module: Any = data(None) if base_module is None else base_module
        a = a_initializer(rngs.params(), (in_features, lora_rank), param_dtype)
        self.lora_a = lora_param_type(a, **a_metadata)
        b = b_initializer(rngs.params(), (lora_rank, out_features), param_dtype)
        self.lora_b = lora_param_type(b, **b_metadata)

    @located
    def __call__(self, x: jax.Array, **kwargs: Any) -> jax.Array:
        """Applies the layer and the change.

        Args:
          x: shape ``(..., in_features)``.
          **kwargs: further arguments of the layer.

        Returns:
          An array of shape ``(..., out_features)``.

        Raises:
          ShapeMismatchError: the input has another number of features.
          NnxError: the layer cannot be called, or its result has another shape.
        """
        x = check_features(self, value_of(self.lora_a).shape[-2], x)
        inputs, a, b = self.promote_dtype((x, fetch(self, "lora_a"), fetch(self, "lora_b")), dtype=self.dtype)
        change = low_rank(inputs, a, b)
        if self.base_module is None:
            return change
        base: Any = self.base_module
        if not callable(base):
            raise layer_call(
                "LoRA",
                "`self.base_module` must be callable.",
                expected="a layer or a function",
                got=type(base).__name__,
                fix="pass a module that defines __call__",
            )
        result: Any = base(inputs, **kwargs)
        if jnp.shape(result) != change.shape:
            raise layer_call(
                "LoRA",
                "the result of `base_module` does not have the shape of the change.",
                expected=f"shape {change.shape}, out_features={self.out_features}",
                got=f"shape {jnp.shape(result)}",
                fix="make the LoRA with the features of the layer that it changes",
            )
        return result + change


class LoRALinear(Linear):
    """A linear layer with a low-rank change, see `LoRA`: it takes the place of a `Linear` of the same parameters.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> LoRALinear(3, 4, lora_rank=2, rngs=nnx.Rngs(0))(jnp.ones((5, 3))).shape
    (5, 4)

    Args:
      in_features: size of the last axis of the input.
      out_features: size of the last axis of the output.
      lora_rank: rank of the change.
      lora_dtype: what to compute the change in.
      lora_param_dtype: what to store its parameters in.
      a_initializer: initializer for ``lora.lora_a``.
      b_initializer: initializer for ``lora.lora_b``.
      lora_param_type: type of these variables.
      lora_promote_dtype: replaces `fx_nnx.layers.promote_dtype` for the change.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      a_metadata: metadata of ``lora.lora_a``.
      b_metadata: metadata of ``lora.lora_b``.
      **kwargs: further arguments of `Linear`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        lora_rank: int,
        lora_dtype: Dtype | None = None,
        lora_param_dtype: Dtype = jnp.float32,
        a_initializer: Initializer = _default_a_init,
        b_initializer: Initializer = zeros,
        lora_param_type: type[Variable[Any]] = LoRAParam,
        lora_promote_dtype: Callable[..., Any] = promote_dtype,
        rngs: Rngs,
        a_metadata: Mapping[str, Any] = _NO_METADATA,
        b_metadata: Mapping[str, Any] = _NO_METADATA,
        **kwargs: Any,
    ):
        super().__init__(in_features, out_features, rngs=rngs, **kwargs)
        self.lora = LoRA(
            in_features,
            lora_rank,
            out_features,
            dtype=lora_dtype,
            param_dtype=lora_param_dtype,
            a_initializer=a_initializer,
            b_initializer=b_initializer,
            lora_param_type=lora_param_type,
            promote_dtype=lora_promote_dtype,
            rngs=rngs,
            a_metadata=a_metadata,
            b_metadata=b_metadata,
        )

    def __describe__(self) -> dict[str, Any]:
        change = self.lora
        return {
            "lora_rank": change.lora_rank,
            "lora_dtype": change.dtype,
            "lora_param_dtype": change.param_dtype,
            "lora_param_type": change.lora_param_type,
            "lora_promote_dtype": change.promote_dtype,
        }

    @located
    def __call__(self, x: jax.Array, out_sharding: Any = None) -> jax.Array:  # type: ignore[override]
        """Applies the layer and the change.

        Args:
          x: shape ``(..., in_features)``.
          out_sharding: sharding of the result.

        Returns:
          An array of shape ``(..., out_features)``.

        Raises:
          ShapeMismatchError: the input has another number of features.
        """
        result, change = super().__call__(x, out_sharding=out_sharding), self.lora(x)
        return result + (change if out_sharding is None else jax.sharding.reshard(change, out_sharding))
