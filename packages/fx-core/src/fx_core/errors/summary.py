"""Errors of tables that show networks."""

from fx_core.errors._base import FxError

__all__ = ["SummaryExtraMissingError"]


class SummaryExtraMissingError(FxError, ImportError):
    """Tables are drawn by rich, which is not installed.

    Args:
      package: whose extra would bring it.
    """

    def __init__(self, package: str):
        super().__init__(
            "tabulate needs the package rich.",
            expected=f"the extra summary of {package}",
            got="no module named 'rich'",
            fix=f"pip install '{package}[summary]'",
        )
