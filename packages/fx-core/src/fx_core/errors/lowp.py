"""Errors of computations in low precision."""

from typing import Any

from fx_core.errors.ops import OpArgumentError

__all__ = ["AmaxHistoryError"]


class AmaxHistoryError(OpArgumentError):
    """The history of largest magnitudes, which scales come from, has no entry.

    Wrong: ``Fp8DotGeneral(amax_history_length=0)``. Right: ``Fp8DotGeneral(amax_history_length=16)``.
    """

    def __init__(self, length: Any):
        super().__init__(
            "Scaling needs the largest magnitudes of past steps.",
            expected="amax_history_length of at least 1",
            got=length,
            fix="keep some steps: 1024 is the default, 16 is often enough",
        )
