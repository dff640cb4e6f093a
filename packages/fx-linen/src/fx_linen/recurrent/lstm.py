"""Long short-term memories. The arithmetic is in `fx_core.ops.recurrent`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import recurrent
from fx_core.ops.initializers import default_bias_init, default_kernel_init, zeros
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer
from fx_core.ops.recurrent import Affine
from fx_core.ops.recurrent.params import default_recurrent_kernel_init
from fx_core.typing import Dtype

from fx_linen.module import compact, nowrap
from fx_linen.recurrent.base import RNNCellBase, draw_gates, promoted, vector_carry, width_of

__all__ = ["LSTMCell", "OptimizedLSTMCell"]

Carry = tuple[jax.Array, jax.Array]
GATES = "ifgo"


class _LSTMCell(RNNCellBase):
    features: int
    gate_fn: Callable[..., Any] = jax.nn.sigmoid
    activation_fn: Callable[..., Any] = jnp.tanh
    kernel_init: Initializer = default_kernel_init
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init
    bias_init: Initializer = default_bias_init
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    carry_init: Initializer = zeros

    @nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> Carry:
        """Make the carry before the first step.

        Args:
          rng: gives ``carry_init`` one key for the memory and one for the output.
          input_shape: of the inputs of one step, ``(*batch, in)``.

        Returns:
          Memory and output, each of shape ``(*batch, features)`` and dtype ``param_dtype``.
        """
        shape = vector_carry(input_shape, self.features)
        if self.carry_init is zeros:  # needs no keys: do not trace operations that make some
            return zeros(rng, shape, self.param_dtype), zeros(rng, shape, self.param_dtype)
        first, second = jax.random.split(rng)
        return self.carry_init(first, shape, self.param_dtype), self.carry_init(second, shape, self.param_dtype)

    @property
    def num_feature_axes(self) -> int:
        """One: the inputs are vectors."""
        return 1

    @nowrap
    def _maps(self, carry: Carry, inputs: jax.Array) -> tuple[list[Affine], list[Affine]]:
        """The maps of inputs and carry, for i, f, g and o, in the dtypes to compute in."""
        h = recurrent.pair_of("an LSTM", carry)[1]
        params = recurrent.lstm_params(
            features_of(inputs), width_of(self, h, "hi"), self.kernel_init, self.recurrent_kernel_init, self.bias_init
        )
        gates = draw_gates(self, params, self.param_dtype)
        of_inputs, of_carry = ([gates[side + gate] for gate in GATES] for side in "ih")
        return promoted(inputs, of_inputs, self.dtype), promoted(h, of_carry, self.dtype)


class LSTMCell(_LSTMCell):
    """The long short-term memory, gate by gate.

    Hochreiter & Schmidhuber, Long Short-Term Memory, 1997; for the equations see `fx_core.ops.recurrent.lstm`.

    Attributes:
      features: size of memory and output; a cell that is initialized with a carry of another size has that one.
      gate_fn: nonlinearity of the gates i, f, o.
      activation_fn: nonlinearity of g and of the memory.
      kernel_init: initializer for the maps of the inputs, ``ii``, ``if``, ``ig``, ``io``: ``kernel`` (in, features).
      recurrent_kernel_init: initializer for those of the output, ``hi``, ``hf``, ``hg``, ``ho``:
        ``kernel`` (features, features).
      bias_init: initializer for ``bias`` (features,) of ``hi``, ``hf``, ``hg``, ``ho``.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> cell = nn.LSTMCell(features=4)
    >>> carry = cell.initialize_carry(jax.random.key(0), (2, 3))
    >>> ((c, h), y), variables = cell.init_with_output(jax.random.key(1), carry, jnp.ones((2, 3)))
    >>> c.shape, y.shape
    ((2, 4), (2, 4))
    """

    @compact
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step.

        Args:
          carry: memory and output, each of shape ``(..., features)``.
          inputs: shape ``(..., in)``.

        Returns:
          The new carry, and the output.

        Raises:
          ShapeMismatchError: the carry has another number of features than the parameters, or not two parts.
        """
        of_inputs, of_carry = self._maps(carry, inputs)
        new = recurrent.lstm(carry, inputs, of_inputs, of_carry, gate_fn=self.gate_fn, activation_fn=self.activation_fn)
        return new, new[1]


class OptimizedLSTMCell(_LSTMCell):
    """The long short-term memory with two matrix products instead of eight: faster for small features.

    Parameters, options and results are those of `LSTMCell`; the kernels are put side by side in each step, which costs
    more than it brings when they are large.

    Attributes:
      features: size of memory and output; a cell that is initialized with a carry of another size has that one.
      gate_fn: nonlinearity of the gates i, f, o.
      activation_fn: nonlinearity of g and of the memory.
      kernel_init: initializer for the maps of the inputs, ``ii``, ``if``, ``ig``, ``io``: ``kernel`` (in, features).
      recurrent_kernel_init: initializer for those of the output, ``hi``, ``hf``, ``hg``, ``ho``:
        ``kernel`` (features, features).
      bias_init: initializer for ``bias`` (features,) of ``hi``, ``hf``, ``hg``, ``ho``.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> x = jnp.ones((2, 5, 3))
    >>> y, variables = nn.RNN(nn.OptimizedLSTMCell(4)).init_with_output(jax.random.key(0), x)
    >>> bool(jnp.allclose(y, nn.RNN(nn.LSTMCell(4)).apply(variables, x), atol=1e-6))
    True
    """

    @compact
    def __call__(self, carry: Carry, inputs: jax.Array) -> tuple[Carry, jax.Array]:
        """Takes one step.

        Args:
          carry: memory and output, each of shape ``(..., features)``.
          inputs: shape ``(..., in)``.

        Returns:
          The new carry, and the output.

        Raises:
          ShapeMismatchError: the carry has another number of features than the parameters, or not two parts.
        """
        of_inputs, of_carry = self._maps(carry, inputs)
        new = recurrent.lstm_fused(
            carry,
            inputs,
            recurrent.fuse(of_inputs),
            recurrent.fuse(of_carry),
            gate_fn=self.gate_fn,
            activation_fn=self.activation_fn,
        )
        return new, new[1]
