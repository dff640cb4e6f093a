"""Cells whose carry is their output. The arithmetic is in `fx_core.ops.recurrent`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.ops import recurrent
from fx_core.ops.initializers import default_bias_init, default_kernel_init, ones, zeros
from fx_core.ops.inputs import features_of
from fx_core.ops.params import Initializer
from fx_core.ops.recurrent.params import default_recurrent_kernel_init
from fx_core.typing import Dtype

from fx_linen.module import compact, nowrap
from fx_linen.recurrent.base import RNNCellBase, draw_gates, promoted, vector_carry, width_of

__all__ = ["GRUCell", "MGUCell", "SimpleCell"]


class _VectorCell(RNNCellBase):
    """A cell whose carry is one vector of ``features`` numbers, made by ``carry_init``."""

    @nowrap
    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        """Make the carry before the first step.

        Args:
          rng: the key for ``carry_init``.
          input_shape: of the inputs of one step, ``(*batch, in)``.

        Returns:
          An array of shape ``(*batch, features)`` and dtype ``param_dtype``.
        """
        return self.carry_init(rng, vector_carry(input_shape, self.features), self.param_dtype)

    @property
    def num_feature_axes(self) -> int:
        """One: the inputs are vectors."""
        return 1


class SimpleCell(_VectorCell):
    """The plain recurrent cell: ``h' = tanh(W x + b + V h)`` (Elman, Finding Structure in Time, 1990).

    Attributes:
      features: size of the carry, the output; a cell that is initialized with a carry of another size has that one.
      activation_fn: tanh.
      kernel_init: initializer for W, the parameter ``i/kernel`` (in, features).
      recurrent_kernel_init: initializer for V, ``h/kernel`` (features, features).
      bias_init: initializer for b, ``i/bias`` (features,).
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry.
      residual: whether to add ``h`` before the nonlinearity.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> cell = nn.SimpleCell(features=4)
    >>> carry = cell.initialize_carry(jax.random.key(0), (2, 3))
    >>> (carry, y), variables = cell.init_with_output(jax.random.key(1), carry, jnp.ones((2, 3)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'h': {'kernel': (4, 4)}, 'i': {'bias': (4,), 'kernel': (3, 4)}}}
    """

    features: int
    activation_fn: Callable[..., Any] = jnp.tanh
    kernel_init: Initializer = default_kernel_init
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init
    bias_init: Initializer = default_bias_init
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    carry_init: Initializer = zeros
    residual: bool = False

    @compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes one step.

        Args:
          carry: shape ``(..., features)``.
          inputs: shape ``(..., in)``.

        Returns:
          The new carry, twice: it is the output.

        Raises:
          ShapeMismatchError: the carry has another number of features than the parameters.
        """
        params = recurrent.simple_params(
            features_of(inputs),
            width_of(self, carry, "h"),
            self.kernel_init,
            self.recurrent_kernel_init,
            self.bias_init,
        )
        gates = draw_gates(self, params, self.param_dtype)
        (inputs_map,) = promoted(inputs, [gates["i"]], self.dtype)
        (hidden_map,) = promoted(carry, [gates["h"]], self.dtype)
        new = recurrent.simple(
            carry, inputs, inputs_map, hidden_map, activation_fn=self.activation_fn, residual=self.residual
        )
        return new, new


class GRUCell(_VectorCell):
    """The gated recurrent unit.

    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation, 2014; for
    the equations see `fx_core.ops.recurrent.gru`.

    Attributes:
      features: size of the carry, the output; a cell that is initialized with a carry of another size has that one.
      gate_fn: nonlinearity of the gates r and z.
      activation_fn: nonlinearity of the candidate n.
      kernel_init: initializer for the maps of the inputs, ``ir``, ``iz``, ``in``: ``kernel`` (in, features).
      recurrent_kernel_init: initializer for those of the carry, ``hr``, ``hz``, ``hn``:
        ``kernel`` (features, features).
      bias_init: initializer for ``bias`` (features,) of ``ir``, ``iz``, ``in`` and ``hn``.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> y, variables = nn.RNN(nn.GRUCell(4)).init_with_output(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> y.shape
    (2, 5, 4)
    """

    features: int
    gate_fn: Callable[..., Any] = jax.nn.sigmoid
    activation_fn: Callable[..., Any] = jnp.tanh
    kernel_init: Initializer = default_kernel_init
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init
    bias_init: Initializer = default_bias_init
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    carry_init: Initializer = zeros

    @compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes one step.

        Args:
          carry: shape ``(..., features)``.
          inputs: shape ``(..., in)``.

        Returns:
          The new carry, twice: it is the output.

        Raises:
          ShapeMismatchError: the carry has another number of features than the parameters.
        """
        params = recurrent.gru_params(
            features_of(inputs),
            width_of(self, carry, "hn"),
            self.kernel_init,
            self.recurrent_kernel_init,
            self.bias_init,
        )
        gates = draw_gates(self, params, self.param_dtype)
        new = recurrent.gru(
            carry,
            inputs,
            promoted(inputs, [gates["ir"], gates["iz"], gates["in"]], self.dtype),
            promoted(carry, [gates["hr"], gates["hz"], gates["hn"]], self.dtype),
            gate_fn=self.gate_fn,
            activation_fn=self.activation_fn,
        )
        return new, new


class MGUCell(_VectorCell):
    """The minimal gated unit: a GRU with one gate instead of two.

    Zhou et al., Minimal Gated Unit for Recurrent Neural Networks, 2016; for the equations see
    `fx_core.ops.recurrent.mgu`.

    Attributes:
      features: size of the carry, the output; a cell that is initialized with a carry of another size has that one.
      gate_fn: nonlinearity of the gate f.
      activation_fn: nonlinearity of the candidate n.
      kernel_init: initializer for the maps of the inputs, ``if`` and ``in``: ``kernel`` (in, features).
      recurrent_kernel_init: initializer for those of the carry, ``hf`` and ``hn``:
        ``kernel`` (features, features).
      forget_bias_init: initializer for ``bias`` (features,) of ``if``; ones make a new cell remember.
      activation_bias_init: initializer for ``bias`` (features,) of ``in`` and, with the reset gate, of ``hn``.
      dtype: dtype of the computation (default: inferred from inputs, carry and parameters).
      param_dtype: dtype of the parameters and of the first carry.
      carry_init: initializer for the first carry.
      reset_gate: whether the gate also acts on what the candidate sees of the carry.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> y, variables = nn.RNN(nn.MGUCell(4)).init_with_output(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> sorted(variables["params"]["cell"])
    ['hf', 'hn', 'if', 'in']
    """

    features: int
    gate_fn: Callable[..., Any] = jax.nn.sigmoid
    activation_fn: Callable[..., Any] = jnp.tanh
    kernel_init: Initializer = default_kernel_init
    recurrent_kernel_init: Initializer = default_recurrent_kernel_init
    forget_bias_init: Initializer = ones
    activation_bias_init: Initializer = default_bias_init
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    carry_init: Initializer = zeros
    reset_gate: bool = True

    @compact
    def __call__(self, carry: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Takes one step.

        Args:
          carry: shape ``(..., features)``.
          inputs: shape ``(..., in)``.

        Returns:
          The new carry, twice: it is the output.

        Raises:
          ShapeMismatchError: the carry has another number of features than the parameters.
        """
        params = recurrent.mgu_params(
            features_of(inputs),
            width_of(self, carry, "hn"),
            self.reset_gate,
            self.kernel_init,
            self.recurrent_kernel_init,
            self.forget_bias_init,
            self.activation_bias_init,
        )
        gates = draw_gates(self, params, self.param_dtype)
        new = recurrent.mgu(
            carry,
            inputs,
            promoted(inputs, [gates["if"], gates["in"]], self.dtype),
            promoted(carry, [gates["hf"], gates["hn"]], self.dtype),
            gate_fn=self.gate_fn,
            activation_fn=self.activation_fn,
            reset_gate=self.reset_gate,
        )
        return new, new
