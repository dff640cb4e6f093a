"""Errors of recurrent networks: carries, sequences and cells that do not fit."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors._base import FxError
from fx_core.errors.ops import OpArgumentError

__all__ = ["CarryShapeError", "CellInterfaceError", "SequenceInputError", "SequenceLengthsError"]


class CarryShapeError(OpArgumentError):
    """The carry of a recurrent cell has another shape than the cell works on.

    Wrong: ``LSTMCell(4).init(key, (jnp.zeros((2, 3)),) * 2, x)``. Right: make the carry with
    ``cell.initialize_carry(key, x.shape)``.
    """

    def __init__(self, what: str, *, expected: Any, got: Any, fix: str):
        super().__init__(what, expected=expected, got=got, fix=fix)


class SequenceLengthsError(OpArgumentError):
    """The lengths of sequences are not integers, or there is not one per sequence.

    Wrong: ``rnn(jnp.ones((2, 5, 3)), seq_lengths=jnp.array([5]))``. Right: ``seq_lengths=jnp.array([5, 4])``.
    """

    def __init__(self, batch: Sequence[int], shape: Sequence[int], dtype: Any):
        super().__init__(
            "The lengths do not fit the sequences.",
            expected=f"integers of shape {tuple(batch)}, one per sequence",
            got=f"{dtype} of shape {tuple(shape)}",
            fix="give seq_lengths the batch dimensions of the inputs, without time and features",
        )


class SequenceInputError(OpArgumentError):
    """The input of a recurrent network has no time axis.

    Wrong: ``RNN(LSTMCell(4))(jnp.ones(3))``. Right: ``RNN(LSTMCell(4))(jnp.ones((5, 3)))``.
    """

    def __init__(self, shape: Sequence[int], feature_axes: int, time_major: bool):
        features = ", ".join(["*batch", "time"] if not time_major else ["time", "*batch"])
        super().__init__(
            "The input has too few dimensions for a sequence.",
            expected=f"({features}, then {feature_axes} axes of features)",
            got=tuple(shape),
            fix="add the time axis: x[None] for a sequence of one step, or call the cell itself",
        )


class CellInterfaceError(FxError, NotImplementedError):
    """A module is used as a recurrent cell and lacks a part of a cell.

    Wrong: ``RNN(Dense(4))``, ``RNN(SimpleCell)``. Right: ``RNN(SimpleCell(4))``, or a subclass of ``RNNCellBase`` that
    has ``__call__(carry, inputs)``, ``initialize_carry(rng, input_shape)`` and the property ``num_feature_axes``.
    """

    def __init__(self, cell: str, missing: str | None):
        fix = f"define {missing} in {cell}, or use one of the cells that are there"
        super().__init__(
            f"{cell} cannot be used as a recurrent cell.",
            expected="__call__(carry, inputs), initialize_carry(rng, input_shape), num_feature_axes",
            got=f"no {missing}" if missing else "the class",
            fix=fix if missing else f"make a cell of it: {cell}(...)",
        )
