"""A cell over sequences."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from fx_core.frozen_dict import FrozenDict
from fx_core.ops.recurrent import check_lengths, feature_axes_of, select_last, sequence_axes
from fx_core.ops.recurrent import flip_sequences as flip_along

from fx_linen.module import Module, nowrap
from fx_linen.transforms.scan import scan

__all__ = ["RNN", "RNNLike", "flip_sequences"]


class RNNLike(Protocol):
    """What `Bidirectional` needs of its parts: `RNN`, or a module of one's own with the same call."""

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any | None = None,
        init_key: jax.Array | None = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Runs over sequences; see `RNN`."""
        ...


class RNN(Module):
    """A cell that runs over sequences, by a lifted `jax.lax.scan`.

    Every option of the call can be given here or there; there it wins.

    Attributes:
      cell: an `RNNCellBase`.
      time_major: whether inputs and outputs are ``(time, *batch, *features)`` instead of ``(*batch, time, *features)``.
      return_carry: whether to return ``(carry, outputs)`` instead of ``outputs``. The carry is the one after the last
        step of each sequence.
      reverse: whether to read the sequences backwards.
      keep_order: with ``reverse``, whether the outputs stand where their inputs do; else in the order of the steps.
      unroll: steps per iteration of the compiled loop.
      variable_axes: collections of the cell with one entry per step, and along which axis.
      variable_broadcast: collections that all steps share.
      variable_carry: collections that a step takes from the one before; they exist before the loop.
      split_rngs: for each RNG stream whether every step gets a key of its own.

    >>> import jax, jax.numpy as jnp, fx_linen as nn
    >>> x, lengths = jnp.ones((2, 5, 3)), jnp.array([5, 2])
    >>> rnn = nn.RNN(nn.LSTMCell(4), return_carry=True)
    >>> ((c, h), y), variables = rnn.init_with_output(jax.random.key(0), x, seq_lengths=lengths)
    >>> y.shape, bool((h[1] == y[1, 1]).all())
    ((2, 5, 4), True)
    """

    cell: Any
    time_major: bool = False
    return_carry: bool = False
    reverse: bool = False
    keep_order: bool = False
    unroll: int = 1
    variable_axes: Mapping[Any, Any] = FrozenDict()
    variable_broadcast: Any = "params"
    variable_carry: Any = False
    split_rngs: Mapping[Any, bool] = FrozenDict({"params": False})

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any | None = None,
        init_key: jax.Array | None = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
    ) -> Any:
        """Runs the cell over the sequences.

        Args:
          inputs: shape ``(*batch, time, *features)``, ``(time, *batch, *features)`` if time-major. There may be no
            batch axis or several.
          initial_carry: the carry before the first step; by default the cell makes one.
          init_key: the key for that; by default one of seed 0.
          seq_lengths: of the sequences, integers of shape ``batch``. Outputs behind the end of a sequence are of no
            use; the carry and, in reverse, the order follow the lengths.
          return_carry: replaces the attribute.
          time_major: replaces the attribute.
          reverse: replaces the attribute.
          keep_order: replaces the attribute.

        Returns:
          The outputs, with time and batch where the inputs have them; with ``return_carry`` a pair of the last carry,
          ``(*batch, …)``, and the outputs.

        Raises:
          UnsupportedOperationError: the cell is no cell.
          ShapeMismatchError: the inputs have no time axis.
          ShapeMismatchError: the lengths do not fit the batch.
          CarryChangedError: the cell returns a carry of another structure, shape or dtype.
        """
        return_carry = self.return_carry if return_carry is None else return_carry
        time_major = self.time_major if time_major is None else time_major
        reverse = self.reverse if reverse is None else reverse
        keep_order = self.keep_order if keep_order is None else keep_order

        inputs = jnp.asarray(inputs)
        feature_axes = feature_axes_of(self.cell)
        axis, batch = sequence_axes(inputs.shape, feature_axes, time_major)
        lengths = None if seq_lengths is None else check_lengths(seq_lengths, batch)
        if initial_carry is None:
            key = jax.random.key(0) if init_key is None else init_key
            initial_carry = self.cell.initialize_carry(key, batch + inputs.shape[inputs.ndim - feature_axes :])
        if reverse:
            inputs = flip_along(inputs, lengths, time_axis=axis)
        carry, outputs = self._scan(initial_carry, inputs, axis, lengths if return_carry else None)
        if reverse and keep_order:
            outputs = flip_along(outputs, lengths, time_axis=axis)
        return (carry, outputs) if return_carry else outputs

    @nowrap
    def _scan(self, initial: Any, inputs: jax.Array, axis: int, lengths: jax.Array | None) -> tuple[Any, Any]:
        """The carry after the last step, or after that of each sequence if there are lengths, and the outputs."""

        def step(cell: Any, carry: Any, x: jax.Array) -> tuple[Any, Any]:
            carry, output = cell(carry, x)
            return carry, (output if lengths is None else (carry, output))

        loop = scan(
            step,
            in_axes=axis,
            out_axes=axis if lengths is None else (0, axis),
            unroll=self.unroll,
            variable_axes=self.variable_axes,
            variable_broadcast=self.variable_broadcast,
            variable_carry=self.variable_carry,
            split_rngs=self.split_rngs,
        )
        last, outputs = loop(self.cell, initial, inputs)
        if lengths is None:
            return last, outputs
        history, outputs = outputs
        return select_last(history, lengths, initial), outputs


def flip_sequences(
    inputs: jax.Array, seq_lengths: jax.Array | None, num_batch_dims: int, time_major: bool = False
) -> jax.Array:
    """Reverses sequences, each within its length; what lies behind the end is of no use.

    Args:
      inputs: shape ``(*batch, time, *features)``, ``(time, *batch, *features)`` if time-major.
      seq_lengths: integers of shape ``batch``; None for the whole length.
      num_batch_dims: how many batch axes there are.
      time_major: where the time axis is.

    Raises:
      ShapeMismatchError: the lengths do not fit the batch.

    >>> import jax.numpy as jnp
    >>> flip_sequences(jnp.array([[1, 2, 3, 0]]), jnp.array([3]), num_batch_dims=1)[:, :3]
    Array([[3, 2, 1]], dtype=int32)
    """
    axis, batch = (0, inputs.shape[1:]) if time_major else (num_batch_dims, inputs.shape)
    lengths = None if seq_lengths is None else check_lengths(seq_lengths, batch[:num_batch_dims])
    return flip_along(inputs, lengths, time_axis=axis)
