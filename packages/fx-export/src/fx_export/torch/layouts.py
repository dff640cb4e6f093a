"""How one array is laid out here and in PyTorch."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way between two layouts of the same numbers.

    Attributes:
      name: what it is called in errors.
      to_torch: gives PyTorch's array for ours.
      from_torch: gives ours for PyTorch's; the second argument is the shape of ours.
    """

    name: str
    to_torch: Callable[[np.ndarray], np.ndarray]
    from_torch: Callable[[np.ndarray, Shape], np.ndarray]


def linear(inputs: int | None = 1, outputs: int | None = None) -> Layout:
    """The kernel of a linear layer over several axes, which PyTorch has as a matrix ``(out, in)``.

    Args:
      inputs: how many axes come in, the first ones.
      outputs: how many go out, the last ones, where that is known instead.

    >>> linear(2).to_torch(np.zeros((2, 3, 4, 5))).shape
    (20, 6)
    """

    def split(shape: Shape) -> int:
        return len(shape) - outputs if outputs is not None else inputs or 0

    def to_torch(array: np.ndarray) -> np.ndarray:
        at = split(array.shape)
        return array.reshape(math.prod(array.shape[:at]), math.prod(array.shape[at:])).T

    return Layout("linear", to_torch, lambda array, shape: array.T.reshape(shape))


def _flip(array: np.ndarray) -> np.ndarray:
    return np.flip(array, tuple(range(array.ndim - 2)))


def _first(array: np.ndarray, last: tuple[int, int]) -> np.ndarray:
    """Put the two last axes first, in the order of ``last``."""
    return np.moveaxis(array, last, (0, 1))


def _last(array: np.ndarray, last: tuple[int, int]) -> np.ndarray:
    return np.moveaxis(array, (0, 1), last)


SAME = Layout("as here", lambda array: array, lambda array, shape: array)
"""No change."""

FLAT = Layout("flat", lambda array: array.reshape(-1), lambda array, shape: array.reshape(shape))
"""A bias over several axes, which PyTorch has as a vector."""

SINGLE = Layout("one number", lambda array: array.reshape(1), lambda array, shape: array.reshape(shape))
"""A scalar, which PyTorch has as a vector of one."""

LINEAR = linear()

CONV = Layout("convolution", lambda array: _first(array, (-1, -2)), lambda array, shape: _last(array, (-1, -2)))
"""``(*window, in / groups, out)`` here, ``(out, in / groups, *window)`` there."""

CONV_TRANSPOSE = Layout(
    "transposed convolution",
    lambda array: _first(_flip(array), (-2, -1)),
    lambda array, shape: _flip(_last(array, (-2, -1))),
)
"""``(*window, in, out)`` here, ``(in, out, *window)`` there, where the window is turned around."""

CONV_TRANSPOSE_OF = Layout(
    "transposed convolution", lambda array: _first(array, (-1, -2)), lambda array, shape: _last(array, (-1, -2))
)
"""``(*window, out, in)`` here, as ``transpose_kernel=True`` has it; ``(in, out, *window)`` there."""
