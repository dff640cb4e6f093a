"""What a layer asks of its inputs before it makes parameters for them."""

from typing import Any

import numpy as np

from fx_core.errors.ops import FeatureAxisError

__all__ = ["features_of"]


def features_of(inputs: Any, what: str = "inputs") -> int:
    """Returns the size of the last axis.

    Args:
      inputs: an array of shape ``(..., features)``, or numbers that make one.
      what: its name in the error.

    Raises:
      FeatureAxisError: it has no axes, or is no array of numbers.

    >>> features_of(np.ones((2, 3)))
    3
    """
    shape = getattr(inputs, "shape", None)
    if shape is None:
        try:
            array = np.asarray(inputs)
        except ValueError:  # lists of several lengths
            raise FeatureAxisError(what, inputs) from None
        if array.dtype.kind not in "biufcV":
            raise FeatureAxisError(what, inputs)
        shape = array.shape
    if not shape:
        raise FeatureAxisError(what, inputs)
    return shape[-1]
