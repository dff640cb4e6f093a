"""The dtypes that checkpoints may name, besides those in `fx_core.stored_dtypes`."""

import math
import re
from typing import Any

import numpy as np

_UNITS = r"\[\d{0,6}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]"

TIMES = re.compile(rf"(datetime64|timedelta64)({_UNITS})?")
"""Names of dates and durations."""

RAW = re.compile(rf"([<>|][SU]\d{{1,9}}|[<>][mM]8({_UNITS})?|>[iufc]\d{{1,2}})")
"""NumPy's codes of what is stored as bytes: strings, dates, foreign byte order."""


LONG = frozenset(np.dtype(kind).name for kind in (np.longdouble, np.clongdouble)) - {"float64", "complex128"}
"""Names of the numbers that have other bits on other machines: msgpack files hold them as Flax writes them."""


def possible_shape(shape: Any) -> bool:
    """Returns whether something from a file is a shape that NumPy can make, of whatever dtype.

    >>> possible_shape([2, 3]), possible_shape([0, 2**60]), possible_shape([True]), possible_shape("2")
    (True, False, False, False)
    """
    if not isinstance(shape, list) or len(shape) > 64 or not all(type(size) is int and size >= 0 for size in shape):
        return False
    # NumPy counts the bytes of an array without elements, too, as if its empty axes were not.
    return math.prod(size or 1 for size in shape) < 2**56
