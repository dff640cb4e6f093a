"""Mistakes in the rules by which names of arrays are translated."""

from typing import Any

from fx_core.errors._base import FxError


class RenamingError(FxError, ValueError):
    """Names of arrays cannot be translated.

    Args:
      problem: what is wrong.
      got: the name or pattern.
      fix: what to do.
    """

    def __init__(self, problem: str, got: Any = None, fix: str = "Add a Rule for it."):
        super().__init__(problem, got=got, fix=fix)
