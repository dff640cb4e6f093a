"""How a family of operations tells which parameters it needs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

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
    """

    shape: tuple[int, ...]
    init: Initializer
    axes: tuple[str, ...]


Params = Mapping[str, ParamSpec]
"""Parameters by name, in the order in which they are drawn."""
