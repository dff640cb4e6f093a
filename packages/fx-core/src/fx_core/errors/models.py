"""Errors about models that are given as functions, for whoever exports them."""

from typing import Any

from fx_core.errors._base import FxError


class ModelFunctionError(FxError, TypeError):
    """A model cannot be given as a pure function of its variables and inputs.

    Wrong::

        fx_export.export(path, model, inputs=["float32[batch, 8]"])  # an NNX model whose BatchNorm is training

    Right::

        model.eval()
        fx_export.export(path, model, inputs=["float32[batch, 8]"])

    Args:
      what: the problem.
      got: what is there.
      fix: what to do.
      expected: what would be right.
    """

    def __init__(self, what: str, got: Any, fix: str, expected: Any = None):
        super().__init__(what, expected=expected, got=got, fix=fix)
