"""Mistakes with checkpoint files."""

import os
from typing import Any

from fx_core.errors._base import FxError


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


class AlreadyExistsError(FxError):
    """A file or directory would be overwritten without permission, or holds what is not fx's to replace.

    Nothing is replaced unless asked for, and then only what fx wrote there, by its manifest::

        fx_ckpt.save("run/final", tree)
        fx_ckpt.save("run/final", tree)                  # raises
        fx_ckpt.save("run/final", tree, overwrite=True)  # replaces it, atomically
        fx_ckpt.save("home/me", tree, overwrite=True)    # raises: it holds other files
    """

    def __init__(self, path: str | os.PathLike[str], found: str | None = None):
        keep = ", and overwrite=True does not replace what is not its own"
        super().__init__(
            f"There is something at this path already{keep if found else ''}.",
            path=os.fspath(path),
            expected=None if found else "a free path",
            got=found,
            fix="Choose another path, or move away what is there."
            if found
            else "Choose another path, or pass overwrite=True to replace it.",
        )
