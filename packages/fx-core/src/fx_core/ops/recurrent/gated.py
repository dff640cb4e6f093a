"""Recurrent cells whose carry is their output: the plain one, the gated unit, the minimal gated unit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from fx_core.ops.recorded import recorded_once
from fx_core.ops.recurrent.maps import Affine, Gates, apply_gates, check_carry

__all__ = ["gru", "gru_fused", "gru_update", "mgu", "simple"]

Activation = Callable[[Any], Any]


def simple(
    h: jax.Array,
    inputs: jax.Array,
    inputs_map: Affine,
    hidden_map: Affine,
    *,
    activation_fn: Activation = jnp.tanh,
    residual: bool = False,
) -> jax.Array:
    """Takes one step of a plain recurrent network: ``tanh(W x + b + V h)`` (Elman, Finding Structure in Time, 1990).

    Args:
      h: the carry, shape ``(..., features)``.
      inputs: shape ``(..., in)``.
      inputs_map: from the inputs.
      hidden_map: from the carry.
      activation_fn: tanh.
      residual: whether to add ``h`` before the nonlinearity.

    Returns:
      The new carry, which is the output.

    Raises:
      ShapeMismatchError: the carry has another number of features.

    >>> import jax.numpy as jnp
    >>> simple(jnp.ones(2), jnp.ones(3), Affine(jnp.ones((3, 2))), Affine(jnp.ones((2, 2))), activation_fn=lambda x: x)
    Array([5., 5.], dtype=float32)
    """
    check_carry("a simple cell", (h,), inputs, hidden_map)
    new = inputs_map(inputs) + hidden_map(h)
    return activation_fn(new + h if residual else new)


def gru(
    h: jax.Array,
    inputs: jax.Array,
    input_gates: Gates,
    hidden_gates: Gates,
    *,
    gate_fn: Activation = sigmoid,
    activation_fn: Activation = jnp.tanh,
) -> jax.Array:
    """Takes one step of a gated recurrent unit.

    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation, 2014;
    with the reset gate after the product, as cuDNN has it::

        r, z = σ(W_r x + V_r h), σ(W_z x + V_z h)
        n = tanh(W_n x + r * (V_n h))
        h' = (1 - z) * n + z * h

    Args:
      h: the carry, shape ``(..., features)``.
      inputs: shape ``(..., in)``.
      input_gates: three maps of the inputs, for r, z and n.
      hidden_gates: three maps of the carry.
      gate_fn: σ.
      activation_fn: tanh.

    Returns:
      The new carry, which is the output.

    Raises:
      ShapeMismatchError: the carry has another number of features.

    >>> import jax.numpy as jnp
    >>> gru(jnp.ones(2), jnp.ones(3), [Affine(jnp.zeros((3, 2)))] * 3, [Affine(jnp.zeros((2, 2)))] * 3)
    Array([0.5, 0.5], dtype=float32)
    """
    check_carry("a GRU", (h,), inputs, hidden_gates[0])
    arrays = (inputs, h, *[array for gate in (*input_gates, *hidden_gates) for array in gate])
    if gate_fn is sigmoid and activation_fn is jnp.tanh:  # others need not be pure
        return recorded_once(_stepped, arrays, {})
    return _stepped(*arrays, gate_fn=gate_fn, activation_fn=activation_fn)


def _stepped(x: Any, h: Any, *maps: Any, gate_fn: Activation = sigmoid, activation_fn: Any = jnp.tanh) -> jax.Array:
    gates = [Affine(kernel, bias) for kernel, bias in zip(maps[::2], maps[1::2])]
    of_inputs, of_carry = apply_gates(gates[:3], x), apply_gates(gates[3:], h)
    return gru_update(h, of_inputs, of_carry, gate_fn=gate_fn, activation_fn=activation_fn)


def gru_fused(
    h: jax.Array,
    inputs: jax.Array,
    inputs_map: Affine,
    hidden_map: Affine,
    *,
    gate_fn: Activation = sigmoid,
    activation_fn: Activation = jnp.tanh,
) -> jax.Array:
    """Takes the step of `gru` with two matrix products instead of six.

    Args:
      h: the carry, shape ``(..., features)``.
      inputs: shape ``(..., in)``.
      inputs_map: from the inputs to all gates, ``(in, 3 * features)``; see `fx_core.ops.recurrent.fuse`.
      hidden_map: from the carry to all gates, ``(features, 3 * features)``.
      gate_fn: σ.
      activation_fn: tanh.

    Returns:
      The new carry, which is the output.

    Raises:
      ShapeMismatchError: the carry has another number of features.
    """
    check_carry("a GRU", (h,), inputs, hidden_map, 3)
    of_inputs, of_carry = (jnp.split(gates, 3, axis=-1) for gates in (inputs_map(inputs), hidden_map(h)))
    return gru_update(h, of_inputs, of_carry, gate_fn=gate_fn, activation_fn=activation_fn)


def gru_update(
    h: jax.Array,
    of_inputs: list[jax.Array],
    of_carry: list[jax.Array],
    *,
    gate_fn: Activation = sigmoid,
    activation_fn: Activation = jnp.tanh,
) -> jax.Array:
    """Updates a carry, given what the maps of inputs and carry make for r, z and n."""
    (ir, iz, new), (hr, hz, old) = of_inputs, of_carry
    r, z = gate_fn(ir + hr), gate_fn(iz + hz)
    n = activation_fn(new + r * old)
    return (1.0 - z) * n + z * h


def mgu(
    h: jax.Array,
    inputs: jax.Array,
    input_gates: Gates,
    hidden_gates: Gates,
    *,
    gate_fn: Activation = sigmoid,
    activation_fn: Activation = jnp.tanh,
    reset_gate: bool = True,
) -> jax.Array:
    """Takes one step of a minimal gated unit: a GRU whose reset and update gates are one.

    Zhou et al., Minimal Gated Unit for Recurrent Neural Networks, 2016; without the reset gate it is MGU2 of Heck &
    Salem, Simplified Minimal Gated Unit Variations for Recurrent Neural Networks, 2017, with an input::

        f = σ(W_f x + V_f h)
        n = tanh(W_n x + f * (V_n h))        without reset gate: tanh(W_n x + V_n h)
        h' = (1 - f) * n + f * h

    Args:
      h: the carry, shape ``(..., features)``.
      inputs: shape ``(..., in)``.
      input_gates: two maps of the inputs, for f and n.
      hidden_gates: two maps of the carry.
      gate_fn: σ.
      activation_fn: tanh.
      reset_gate: whether f also gates what n sees of the carry.

    Returns:
      The new carry, which is the output.

    Raises:
      ShapeMismatchError: the carry has another number of features.

    >>> import jax.numpy as jnp
    >>> mgu(jnp.ones(2), jnp.ones(3), [Affine(jnp.zeros((3, 2)))] * 2, [Affine(jnp.zeros((2, 2)))] * 2)
    Array([0.5, 0.5], dtype=float32)
    """
    check_carry("an MGU", (h,), inputs, hidden_gates[0])
    (x, new), (gated, old) = apply_gates(input_gates, inputs), apply_gates(hidden_gates, h)
    f = gate_fn(x + gated)
    n = activation_fn(new + (f * old if reset_gate else old))
    return (1.0 - f) * n + f * h
