"""Low-rank adaptation: a small trainable change of a large frozen layer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors.kinds import ShapeMismatchError
from fx_core.ops.dtypes import promote_dtype
from fx_core.ops.initializers import he_uniform, zeros
from fx_core.ops.inputs import features_of
from fx_core.ops.linear import low_rank
from fx_core.ops.params import Initializer
from fx_core.typing import Dtype, PrecisionLike

from fx_linen.module import Module, compact

__all__ = ["LoRA"]

_default_a_init: Initializer = he_uniform()


class LoRA(Module):
    """Adds ``x @ lora_a @ lora_b`` to the result of a layer, where both are small.

    Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021. At first ``lora_b`` is zero, so that the
    layer is what it was. All are parameters: train those whose names start with ``lora``, and leave the rest alone,
    which may be quantized.

    Attributes:
      lora_rank: rank of the change.
      base_module: the layer, or any function. Its parameters are under ``base_module``; those of a layer that is
        created in a compact method are beside the adapter's, as Linen has it: give such a layer a name.
      dtype: what to compute the change in (default: inferred from input and parameters).
      param_dtype: dtype of ``lora_a`` (in, rank) and ``lora_b`` (rank, out).
      precision: of the multiplications, see `jax.lax.Precision`.
      a_initializer: initializer for ``lora_a``.
      b_initializer: initializer for ``lora_b``.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> variables = nn.LoRA(2, nn.Dense(4)).init(jax.random.key(0), jnp.ones((1, 3)))
    >>> jax.tree.map(jnp.shape, variables["params"])
    {'base_module': {'bias': (4,), 'kernel': (3, 4)}, 'lora_a': (3, 2), 'lora_b': (2, 4)}
    """

    lora_rank: int
    base_module: Callable[..., Any]
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: PrecisionLike = None
    a_initializer: Initializer = _default_a_init
    b_initializer: Initializer = zeros

    @compact
    def __call__(self, inputs: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        """Applies the layer and the change.

        Args:
          inputs: shape ``(..., in)``.
          *args: further arguments of the layer.
          **kwargs: more of them.

        Returns:
          An array of shape ``(..., out)``.

        Raises:
          ShapeMismatchError: the layer changes other axes than the last.
        """
        result = self.base_module(inputs, *args, **kwargs)
        if jnp.shape(result)[:-1] != inputs.shape[:-1] or not jnp.ndim(result):
            raise ShapeMismatchError(
                "A low-rank change is for layers that map the last axis.",
                path="/".join(self.path) or None,
                expected=f"a result of shape {(*inputs.shape[:-1], 'out')}",
                got=f"shape {jnp.shape(result)} of {type(self.base_module).__name__}",
                fix="give `base_module` a layer such as Dense",
            )
        features = features_of(inputs)
        a = self.param("lora_a", self.a_initializer, (features, self.lora_rank), self.param_dtype)
        b = self.param("lora_b", self.b_initializer, (self.lora_rank, result.shape[-1]), self.param_dtype)
        inputs, a, b = promote_dtype(inputs, a, b, dtype=self.dtype)
        return result + low_rank(inputs, a, b, precision=self.precision)
