"""Mistakes with checkpoint files."""

import os
from typing import Any

from fx_core.errors._base import FxError

__all__ = ["AlreadyExistsError", "InvalidCheckpointError"]


class AlreadyExistsError(FxError):
    """A file or directory would be overwritten without permission.

    Wrong::

        save_checkpoint(directory, state, step=3)
        save_checkpoint(directory, state, step=3)

    Right::

        save_checkpoint(directory, state, step=3, overwrite=True)

    Args:
      path: what exists already.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(
            "There is something at this path already.",
            path=os.fspath(path),
            expected="a free path",
            fix="Choose another path, delete what is there, or pass overwrite=True.",
        )


class InvalidCheckpointError(FxError, ValueError):
    """A checkpoint was to be written for a step that is not after those that are there.

    Wrong::

        save_checkpoint(directory, state, step=5)
        save_checkpoint(directory, state, step=4)

    Right::

        save_checkpoint(directory, state, step=5)
        save_checkpoint(directory, state, step=6)

    Args:
      path: directory of the checkpoints.
      step: the step that came.
    """

    def __init__(self, path: str | os.PathLike[str], step: Any):
        super().__init__(
            f"A checkpoint for step {step} would not be the latest one.",
            path=os.fspath(path),
            expected="a step after the latest checkpoint",
            got=step,
            fix="Continue from the latest step, or pass overwrite=True, which deletes later checkpoints.",
        )
