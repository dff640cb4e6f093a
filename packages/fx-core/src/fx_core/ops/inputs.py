"""What a layer asks of its inputs before it makes parameters for them."""

from typing import Any

import numpy as np

from fx_core.errors.kinds import ShapeMismatchError

__all__ = ["features_of"]


def features_of(inputs: Any, what: str = "inputs") -> int:
    """Returns the size of the last axis.

    Args:
      inputs: an array of shape ``(..., features)``, or numbers that make one.
      what: its name in the error.

    Raises:
      ShapeMismatchError: it has no axes, or is no array of numbers.

    >>> features_of(np.ones((2, 3)))
    3
    """
    shape = getattr(inputs, "shape", None)
    if shape is None:
        try:
            array = np.asarray(inputs)
        except ValueError:  # lists of several lengths
            raise _feature_axis(what, inputs) from None
        if array.dtype.kind not in "biufcV":
            raise _feature_axis(what, inputs)
        shape = array.shape
    if not shape:
        raise _feature_axis(what, inputs)
    return shape[-1]


def _feature_axis(what: str, got: Any) -> ShapeMismatchError:
    shape = getattr(got, "shape", None)
    return ShapeMismatchError(
        f"The {what} have no axis of features.",
        expected="an array of shape (..., features)",
        got=f"a value of type {type(got).__name__}" if shape is None else f"shape {tuple(shape)}",
        fix=f"make the {what} an array with at least one axis, such as x[None]",
    )
