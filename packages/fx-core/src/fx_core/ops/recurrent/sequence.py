"""Sequences of different lengths in one array."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from fx_core.errors.kinds import ShapeMismatchError
from fx_core.errors.recurrent import cell_interface

__all__ = ["check_lengths", "feature_axes_of", "flip_sequences", "select_last", "sequence_axes"]

T = TypeVar("T")


def feature_axes_of(cell: Any) -> int:
    """Returns how many axes of features the inputs of a cell have.

    Raises:
      UnsupportedOperationError: it does not say, or is the class of a cell.
    """
    if isinstance(cell, type):
        raise cell_interface(cell.__name__, None)
    try:
        return cell.num_feature_axes
    except AttributeError:
        raise cell_interface(type(cell).__name__, "num_feature_axes") from None


def sequence_axes(shape: tuple[int, ...], feature_axes: int, time_major: bool) -> tuple[int, tuple[int, ...]]:
    """Finds the time axis of sequences.

    Args:
      shape: ``(*batch, time, *features)``, or ``(time, *batch, *features)``.
      feature_axes: how many axes of features there are.
      time_major: which of the two it is.

    Returns:
      The time axis and the sizes of the batch axes.

    Raises:
      ShapeMismatchError: there are too few axes.

    >>> sequence_axes((8, 20, 3), 1, time_major=False)
    (1, (8,))
    """
    batch = len(shape) - feature_axes - 1
    if batch < 0:
        raise _sequence_input(shape, feature_axes, time_major)
    return (0, shape[1 : batch + 1]) if time_major else (batch, shape[:batch])


def check_lengths(lengths: Any, batch: tuple[int, ...]) -> jax.Array:
    """Returns the lengths as an array.

    Args:
      lengths: one integer per sequence.
      batch: sizes of the batch axes.

    Raises:
      ShapeMismatchError: they are not integers of that shape.
    """
    lengths = jnp.asarray(lengths)
    if lengths.shape != batch or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ShapeMismatchError(
            "The lengths do not fit the sequences.",
            expected=f"integers of shape {tuple(batch)}, one per sequence",
            got=f"{lengths.dtype} of shape {tuple(lengths.shape)}",
            fix="give seq_lengths the batch dimensions of the inputs, without time and features",
        )
    return lengths


def flip_sequences(inputs: T, lengths: jax.Array | None = None, *, time_axis: int) -> T:
    """Reverses each sequence in its place; the padding after it stays behind it.

    Args:
      inputs: a tree of arrays ``(*batch, time, ...)``, or ``(time, *batch, ...)`` with ``time_axis=0``.
      lengths: of the sequences, shape ``batch``; None if all are as long as the axis.
      time_axis: where the time is.

    >>> import jax.numpy as jnp
    >>> flip_sequences(jnp.array([[1, 2, 3, 0], [1, 2, 3, 4]]), jnp.array([3, 4]), time_axis=1)
    Array([[3, 2, 1, 0], [4, 3, 2, 1]], dtype=int32)
    """
    if lengths is None:
        return jax.tree.map(lambda x: lax.rev(x, (time_axis,)), inputs)
    rank = lengths.ndim + 1

    def flip(x: jax.Array) -> jax.Array:
        steps = x.shape[time_axis]
        # Position t < length shows length - 1 - t; the padding, modulo the steps, is turned around among itself.
        backward = lax.expand_dims(steps - 1 - jnp.arange(steps), [i for i in range(rank) if i != time_axis])
        index = (backward + jnp.expand_dims(lengths, time_axis)) % steps
        return jnp.take_along_axis(x, lax.expand_dims(index, range(rank, x.ndim)), axis=time_axis, mode="clip")

    return jax.tree.map(flip, inputs)


def select_last(history: T, lengths: jax.Array, initial: T) -> T:
    """Takes, for each sequence, the state after its last step.

    Args:
      history: a tree of arrays ``(time, *batch, ...)``, the state after each step.
      lengths: of the sequences, shape ``batch``.
      initial: the state before the first step, for sequences of length 0.

    Returns:
      A tree of arrays ``(*batch, ...)``.

    >>> import jax.numpy as jnp
    >>> states = jnp.arange(10, 16).reshape(3, 2)
    >>> select_last(states, jnp.array([2, 0]), jnp.array([1, 1]))
    Array([12,  1], dtype=int32)
    """

    def select(states: jax.Array, first: jax.Array) -> jax.Array:
        free = range(lengths.ndim, states.ndim - 1)
        index = lax.expand_dims(lax.expand_dims(jnp.maximum(lengths, 1) - 1, (0,)), [i + 1 for i in free])
        last = jnp.take_along_axis(states, index, axis=0, mode="clip")
        return jnp.where(lax.expand_dims(lengths > 0, free), lax.squeeze(last, (0,)), first)

    return jax.tree.map(select, history, initial)


def _sequence_input(shape: Sequence[int], feature_axes: int, time_major: bool) -> ShapeMismatchError:
    features = ", ".join(["*batch", "time"] if not time_major else ["time", "*batch"])
    return ShapeMismatchError(
        "The input has too few dimensions for a sequence.",
        expected=f"({features}, then {feature_axes} axes of features)",
        got=tuple(shape),
        fix="add the time axis: x[None] for a sequence of one step, or call the cell itself",
    )
