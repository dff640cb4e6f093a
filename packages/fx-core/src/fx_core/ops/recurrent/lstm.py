"""The long short-term memory.

Hochreiter & Schmidhuber, Long Short-Term Memory, 1997; with a forget gate: Gers, Schmidhuber & Cummins, Learning to
Forget, 2000.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from fx_core.ops.recorded import recorded_once
from fx_core.ops.recurrent.maps import Affine, Gates, apply_gates, check_carry, pair_of

__all__ = ["Activation", "LSTMCarry", "lstm", "lstm_fused", "lstm_update"]

Activation = Callable[[Any], Any]
LSTMCarry = tuple[jax.Array, jax.Array]


def lstm(
    carry: LSTMCarry,
    inputs: jax.Array,
    input_gates: Gates,
    hidden_gates: Gates,
    *,
    gate_fn: Activation = sigmoid,
    activation_fn: Activation = jnp.tanh,
) -> LSTMCarry:
    """Takes one step of a long short-term memory (Hochreiter & Schmidhuber 1997), gate by gate.

    With the gates ``i, f, g, o = σ(·), σ(·), tanh(·), σ(·)`` of ``W x + V h + b`` each::

        c' = f * c + i * g
        h' = o * tanh(c')

    Args:
      carry: memory ``c`` and output ``h``, each of shape ``(..., features)``.
      inputs: shape ``(..., in)``.
      input_gates: four maps of the inputs, for i, f, g and o.
      hidden_gates: four maps of ``h``.
      gate_fn: σ.
      activation_fn: tanh.

    Returns:
      The new carry; its ``h`` is the output.

    Raises:
      ShapeMismatchError: the carry has another number of features.

    >>> import jax.numpy as jnp
    >>> gates = [Affine(jnp.zeros((3, 2)))] * 4
    >>> c, h = lstm((jnp.ones((1, 2)), jnp.ones((1, 2))), jnp.ones((1, 3)), gates, [Affine(jnp.zeros((2, 2)))] * 4)
    >>> c
    Array([[0.5, 0.5]], dtype=float32)
    """
    c, h = pair_of("an LSTM", carry)
    check_carry("an LSTM", (c, h), inputs, hidden_gates[0])
    arrays = (inputs, c, h, *[array for gate in (*input_gates, *hidden_gates) for array in gate])
    if gate_fn is sigmoid and activation_fn is jnp.tanh:  # others need not be pure
        return recorded_once(_stepped, arrays, {})
    return _stepped(*arrays, gate_fn=gate_fn, activation_fn=activation_fn)


def _stepped(x: Any, c: Any, h: Any, *maps: Any, gate_fn: Activation = sigmoid, activation_fn: Any = jnp.tanh) -> Any:
    gates = [Affine(kernel, bias) for kernel, bias in zip(maps[::2], maps[1::2])]
    i, f, g, o = map(operator.add, apply_gates(gates[:4], x), apply_gates(gates[4:], h))
    return lstm_update(c, i, f, g, o, gate_fn=gate_fn, activation_fn=activation_fn)


def lstm_fused(
    carry: LSTMCarry,
    inputs: jax.Array,
    inputs_map: Affine,
    hidden_map: Affine,
    *,
    gate_fn: Activation = sigmoid,
    activation_fn: Activation = jnp.tanh,
) -> LSTMCarry:
    """Takes the step of `lstm` with two matrix products instead of eight.

    Args:
      carry: memory ``c`` and output ``h``, each of shape ``(..., features)``.
      inputs: shape ``(..., in)``.
      inputs_map: from the inputs to all gates, ``(in, 4 * features)``; see `fx_core.ops.recurrent.fuse`.
      hidden_map: from ``h`` to all gates, ``(features, 4 * features)``.
      gate_fn: σ.
      activation_fn: tanh.

    Returns:
      The new carry; its ``h`` is the output.

    Raises:
      ShapeMismatchError: the carry has another number of features.
    """
    c, h = pair_of("an LSTM", carry)
    check_carry("an LSTM", (c, h), inputs, hidden_map, 4)
    gates = hidden_map(h) + inputs_map(inputs)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    return lstm_update(c, i, f, g, o, gate_fn=gate_fn, activation_fn=activation_fn)


def lstm_update(
    c: jax.Array,
    i: jax.Array,
    f: jax.Array,
    g: jax.Array,
    o: jax.Array,
    *,
    gate_fn: Activation = sigmoid,
    activation_fn: Activation = jnp.tanh,
) -> LSTMCarry:
    """Updates a memory, given what goes into its gates.

    Args:
      c: the memory.
      i: before the nonlinearity: how much to write,
      f: how much to keep,
      g: what to write,
      o: how much to show.
      gate_fn: nonlinearity of i, f, o.
      activation_fn: nonlinearity of g and of the memory.

    Returns:
      The new memory and the output.
    """
    if gate_fn is sigmoid and activation_fn is jnp.tanh:  # others need not be pure
        return recorded_once(_updated, (c, i, f, g, o), {"gate_fn": sigmoid, "activation_fn": jnp.tanh})
    return _updated(c, i, f, g, o, gate_fn, activation_fn)


def _updated(c: Any, i: Any, f: Any, g: Any, o: Any, gate_fn: Activation, activation_fn: Activation) -> LSTMCarry:
    i, f, g, o = gate_fn(i), gate_fn(f), activation_fn(g), gate_fn(o)
    c = f * c + i * g
    return c, o * activation_fn(c)
