"""Long short-term memories. The arithmetic is in `fx_core.ops.recurrent`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import recurrent
from fx_core.ops.initializers import default_bias_init, default_kernel_init
from fx_core.ops.params import Initializer
from fx_core.ops.recurrent.params import default_recurrent_kernel_init, rounded_recurrent_kernel_init
from fx_core.typing import Dtype

from fx_nnx.layers.linear import Linear
from fx_nnx.layers.params import located, promote_dtype
from fx_nnx.layers.recurrent.base import NO_METADATA, VectorCell, checked, maps_of
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngStream

__all__ = ["LSTMCell", "OptimizedLSTMCell"]

Carry = tuple[jax.Array, jax.Array]


class _LSTMCell(VectorCell):
    gate_fn: Callable[..., Any]
    activation_fn: Callable[..., Any]

    def initialize_carry(
        self,
        input_shape: tuple[int, ...],
        rngs: Rngs | RngStream | None = None,
        carry_init: Initializer | None = None,
    ) -> Carry:
        """Make memory and output before the first step.

        Args:
          input_shape: of the inputs of one step, ``(*batch, in_features)``.
          rngs: streams or one stream, instead of the cell's; needed if the carry is drawn.
          carry_init: instead of the cell's; zeros if there is none.

        Returns:
          Two arrays of shape ``(*batch, hidden_features)`` and dtype ``param_dtype``.

        Raises:
          NnxError: the carry is to be drawn, and there is no stream.
        """
        draws = self._draws(input_shape, rngs, carry_init)
        return next(draws), next(draws)


class LSTMCell(_LSTMCell):
    """The long short-term memory, gate by gate.

    Hochreiter & Schmidhuber, Long Short-Term Memory, 1997; for the equations see `fx_core.ops.recurrent.lstm`. The maps
    of the inputs are the layers ``ii``, ``if_``, ``ig``, ``io``, those of the output ``hi``, ``hf``, ``hg``, ``ho``.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> cell = LSTMCell(3, 4, rngs=nnx.Rngs(0))
    >>> (c, h), y = cell(cell.initialize_carry((2, 3)), jnp.ones((2, 3)))
    >>> c.shape, y.shape
    ((2, 4), (2, 4))

    Args:
      in_features: size of the inputs.
      hidden_features: size of memory and output.
      gate_fn: nonlinearity of the gates i, f, o.
      activation_fn: nonlinearity of g and of the memory.
      kernel_init: initializer for the kernels of the maps of the inputs.
      recurrent_kernel_init: initializer for those of the maps of the output.
      bias_init: initializer for the biases, which the maps of the output have.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry; zeros if None.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      keep_rngs: whether to keep a fork of the stream ``carry``, for carries that are drawn.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the kernels of the maps of the inputs.
      recurrent_kernel_metadata: metadata of those of the output.
      bias_metadata: metadata of the biases.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        gate_fn: Callable[..., Any] = jax.nn.sigmoid,
        activation_fn: Callable[..., Any] = jnp.tanh,
        kernel_init: Initializer = default_kernel_init,
        recurrent_kernel_init: Initializer = rounded_recurrent_kernel_init,
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
        def of_inputs() -> Linear:
            return Linear(
                in_features,
                hidden_features,
                use_bias=False,
                kernel_init=kernel_init,
                kernel_metadata=kernel_metadata,
                dtype=dtype,
                param_dtype=param_dtype,
                promote_dtype=promote_dtype,
                rngs=rngs,
            )

        def of_output() -> Linear:
            return Linear(
                hidden_features,
                hidden_features,
                kernel_init=recurrent_kernel_init,
                bias_init=bias_init,
                kernel_metadata=recurrent_kernel_metadata,
                bias_metadata=bias_metadata,
                dtype=dtype,
                param_dtype=param_dtype,
                promote_dtype=promote_dtype,
                rngs=rngs,
            )

        self.ii, self.if_, self.ig, self.io = of_inputs(), of_inputs(), of_inputs(), of_inputs()
        self.hi, self.hf, self.hg, self.ho = of_output(), of_output(), of_output(), of_output()
        self._setup(LSTMCell, locals())

    @located
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step.

        Args:
          carry: memory and output, each of shape ``(..., hidden_features)``.
          inputs: shape ``(..., in_features)``.

        Returns:
          The new carry, and the output.

        Raises:
          ShapeMismatchError: the inputs have another number of features.
          ShapeMismatchError: the carry has another number of features.
        """
        inputs = checked(self, inputs, self.ii)
        of_inputs = maps_of(self, inputs, self.ii, self.if_, self.ig, self.io)
        of_carry = maps_of(self, recurrent.pair_of("an LSTM", carry)[1], self.hi, self.hf, self.hg, self.ho)
        new = recurrent.lstm(carry, inputs, of_inputs, of_carry, gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return new, new[1]


class OptimizedLSTMCell(_LSTMCell):
    """The long short-term memory with two matrix products instead of eight: faster, above all for small features.

    All gates are in one kernel: the map of the inputs is the layer ``dense_i``, without bias, that of the output
    ``dense_h``, with one; the gates stand side by side in the order i, f, g, o.

    >>> import jax.numpy as jnp
    >>> import fx_nnx as nnx
    >>> cell = OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))
    >>> cell(cell.initialize_carry((2, 3)), jnp.ones((2, 3)))[1].shape, cell.dense_h.kernel.shape
    ((2, 4), (4, 16))

    Args:
      in_features: size of the inputs.
      hidden_features: size of memory and output.
      gate_fn: nonlinearity of the gates i, f, o.
      activation_fn: nonlinearity of g and of the memory.
      kernel_init: initializer for the kernel of the map of the inputs.
      recurrent_kernel_init: initializer for that of the map of the output.
      bias_init: initializer for the bias.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry; zeros if None.
      promote_dtype: replaces `fx_nnx.layers.promote_dtype`.
      keep_rngs: whether to keep a fork of the stream ``carry``, for carries that are drawn.
      rngs: RNG streams; parameters are initialized with keys of ``params``.
      kernel_metadata: metadata of the kernel of the map of the inputs.
      recurrent_kernel_metadata: metadata of that of the output.
      bias_metadata: metadata of the bias.
    """

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
            4 * hidden_features,
            use_bias=False,
            kernel_init=kernel_init,
            kernel_metadata=kernel_metadata,
            rngs=rngs,
            **shared,
        )
        self.dense_h = Linear(
            hidden_features,
            4 * hidden_features,
            kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            kernel_metadata=recurrent_kernel_metadata,
            bias_metadata=bias_metadata,
            rngs=rngs,
            **shared,
        )
        self._setup(OptimizedLSTMCell, locals())

    @located
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step.

        Args:
          carry: memory and output, each of shape ``(..., hidden_features)``.
          inputs: shape ``(..., in_features)``.

        Returns:
          The new carry, and the output.

        Raises:
          ShapeMismatchError: the inputs have another number of features.
          ShapeMismatchError: the carry has another number of features.
        """
        inputs = checked(self, inputs, self.dense_i)
        (of_inputs,) = maps_of(self, inputs, self.dense_i)
        (of_carry,) = maps_of(self, recurrent.pair_of("an LSTM", carry)[1], self.dense_h)
        new = recurrent.lstm_fused(
            carry, inputs, of_inputs, of_carry, gate_fn=self.gate_fn, activation_fn=self.activation_fn
        )
        return new, new[1]
