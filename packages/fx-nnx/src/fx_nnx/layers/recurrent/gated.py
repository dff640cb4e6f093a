"""Cells whose carry is their output. The arithmetic is in `fx_core.ops.recurrent`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import recurrent
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import Initializer
from fx_core.ops.recurrent.params import default_recurrent_kernel_init
from fx_core.typing import Dtype

from fx_nnx.layers.linear import Linear
from fx_nnx.layers.params import located, promote_dtype
from fx_nnx.layers.recurrent.base import NO_METADATA, VectorCell, checked, maps_of
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream

__all__ = ["GRUCell", "SimpleCell"]


class _OneCarry(VectorCell):
    activation_fn: Callable[..., Any]

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Rngs | RngStream | None = None,
        carry_init: Initializer | None = None,
    ) -> jax.Array:
        """Make the carry before the first step.

        Args:
          input_shape: of the inputs of one step, ``(*batch, in_features)``.
          rngs: streams or one stream, instead of the cell's; needed if the carry is drawn.
          carry_init: instead of the cell's; zeros if there is none.

        Returns:
          An array of shape ``(*batch, hidden_features)`` and dtype ``param_dtype``.

        Raises:
          NnxError: the carry is to be drawn, and there is no stream.
        """
        return next(self._draws(input_shape, rngs, carry_init))


class SimpleCell(_OneCarry):
    """The plain recurrent cell: ``h' = tanh(W x + b + V h)`` (Elman, Finding Structure in Time, 1990).

    W and b are the layer ``dense_i``, V is ``dense_h``.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> cell = SimpleCell(3, 4, rngs=nnx.Rngs(0))
    >>> carry, y = cell(cell.initialize_carry((2, 3)), jnp.ones((2, 3)))
    >>> carry is y, y.shape
    (True, (2, 4))

    Args:
      in_features: size of the inputs.
      hidden_features: size of the carry, which is the output.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry; zeros if None.
      residual: whether to add ``h`` before the nonlinearity.
      activation_fn: tanh.
      kernel_init: initializer for W.
      recurrent_kernel_init: initializer for V.
      bias_init: initializer for b.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      keep_rngs: whether to keep a fork of the stream ``carry``, for carries that are drawn.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of W.
      recurrent_kernel_metadata: metadata of V.
      bias_metadata: metadata of b.
    """

    residual: bool

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        dtype: Dtype = jnp.float32,
        param_dtype: Dtype = jnp.float32,
        carry_init: Initializer | None = None,
        residual: bool = False,
        activation_fn: Callable[..., Any] = jnp.tanh,
        kernel_init: Initializer = default_kernel_init,
        recurrent_kernel_init: Initializer = default_recurrent_kernel_init,
        bias_init: Initializer = default_bias_init,
        promote_dtype: Callable[..., Any] = promote_dtype,
        keep_rngs: bool = False,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        recurrent_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        shared: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "promote_dtype": promote_dtype}
        self.dense_h = Linear(
            hidden_features,
            hidden_features,
            use_bias=False,
            kernel_init=recurrent_kernel_init,
            kernel_metadata=recurrent_kernel_metadata,
            rngs=rngs,
            **shared,
        )
        self.dense_i = Linear(
            in_features,
            hidden_features,
            kernel_init=kernel_init,
            bias_init=bias_init,
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
            rngs=rngs,
            **shared,
        )
        self._setup(SimpleCell, locals())

    @located
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes one step.

        Args:
          carry: shape ``(..., hidden_features)``.
          inputs: shape ``(..., in_features)``.

        Returns:
          The new carry, twice: it is the output.

        Raises:
          ShapeMismatchError: the inputs have another number of features.
          ShapeMismatchError: the carry has another number of features.
        """
        inputs = checked(self, inputs, self.dense_i)
        (of_inputs,) = maps_of(self, inputs, self.dense_i)
        (of_carry,) = maps_of(self, carry, self.dense_h)
        new = recurrent.simple(
            carry, inputs, of_inputs, of_carry, activation_fn=self.activation_fn, residual=self.residual
        )
        return new, new


class GRUCell(_OneCarry):
    """The gated recurrent unit, with two matrix products.

    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation, 2014; for
    the equations see `fx_core.ops.recurrent.gru`. The map of the inputs is the layer ``dense_i``, with bias, that of
    the carry ``dense_h``; the gates stand side by side in the order r, z, n.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> cell = GRUCell(3, 4, rngs=nnx.Rngs(0))
    >>> cell(cell.initialize_carry((2, 3)), jnp.ones((2, 3)))[1].shape
    (2, 4)

    Args:
      in_features: size of the inputs.
      hidden_features: size of the carry, which is the output.
      gate_fn: nonlinearity of the gates r, z.
      activation_fn: nonlinearity of n.
      kernel_init: initializer for the kernel of the map of the inputs.
      recurrent_kernel_init: initializer for that of the map of the carry.
      bias_init: initializer for the bias.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry; zeros if None.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      keep_rngs: whether to keep a fork of the stream ``carry``, for carries that are drawn.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the kernel of the map of the inputs.
      recurrent_kernel_metadata: metadata of that of the carry.
      bias_metadata: metadata of the bias.
    """

    gate_fn: Callable[..., Any]

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[..., Any] = jax.nn.sigmoid,
        activation_fn: Callable[..., Any] = jnp.tanh,
        kernel_init: Initializer = default_kernel_init,
        recurrent_kernel_init: Initializer = default_recurrent_kernel_init,
        bias_init: Initializer = default_bias_init,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        carry_init: Initializer | None = None,
        promote_dtype: Callable[..., Any] = promote_dtype,
        keep_rngs: bool = False,
        rngs: Rngs,
        kernel_metadata: Mapping[str, Any] = NO_METADATA,
        recurrent_kernel_metadata: Mapping[str, Any] = NO_METADATA,
        bias_metadata: Mapping[str, Any] = NO_METADATA,
    ):
        shared: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "promote_dtype": promote_dtype}
        self.dense_i = Linear(
            in_features,
            3 * hidden_features,
            kernel_init=kernel_init,
            bias_init=bias_init,
            kernel_metadata=kernel_metadata,
            bias_metadata=bias_metadata,
            rngs=rngs,
            **shared,
        )
        self.dense_h = Linear(
            hidden_features,
            3 * hidden_features,
            use_bias=False,
            kernel_init=recurrent_kernel_init,
            kernel_metadata=recurrent_kernel_metadata,
            rngs=rngs,
            **shared,
        )
        self._setup(GRUCell, locals())

    @located
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes one step.

        Args:
          carry: shape ``(..., hidden_features)``.
          inputs: shape ``(..., in_features)``.

        Returns:
          The new carry, twice: it is the output.

        Raises:
          ShapeMismatchError: the inputs have another number of features.
          ShapeMismatchError: the carry has another number of features.
        """
        inputs = checked(self, inputs, self.dense_i)
        (of_inputs,) = maps_of(self, inputs, self.dense_i)
        (of_carry,) = maps_of(self, carry, self.dense_h)
        new = recurrent.gru_fused(
            carry, inputs, of_inputs, of_carry, gate_fn=self.gate_fn, activation_fn=self.activation_fn
        )
        return new, new
