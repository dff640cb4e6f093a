"""The declarations of the parameters that a family of operations needs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fx_core.errors.ops import layer_size

__all__ = ["ParamSpec", "Params"]

Initializer = Callable[..., Any]
"""A function ``init(key, shape, dtype) -> Array``, possibly wrapping the array in axis metadata."""


@dataclasses.dataclass(frozen=True)
class ParamSpec:
    """One parameter of an operation.

    Attributes:
      shape: its shape.
      init: the default initializer.
      axes: a logical name for each axis, such as ``("in", "out")``.

    Raises:
      ArgumentError: the sizes are no numbers that a shape can have.
    """

    shape: tuple[int, ...]
    init: Initializer
    axes: tuple[str, ...]

    def __post_init__(self) -> None:
        for size in self.shape:
            if type(size) is not int or size < 0:
                _check_size(size, self.shape)


def _check_size(size: Any, shape: tuple[Any, ...]) -> None:
    # Dimensions of exported programs may be symbols, which are left to JAX.
    if isinstance(size, bool | float | str | bytes | tuple | list | None) or (
        isinstance(size, int | np.integer) and size < 0
    ):
        raise layer_size(shape)


Params = Mapping[str, ParamSpec]
"""Parameters by name, in the order in which they are drawn."""
