"""The errors of fx: one class per mistake."""

from fx_core.errors._base import FxError

__all__ = ["FxError"]
