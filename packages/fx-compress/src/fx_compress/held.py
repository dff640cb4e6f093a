"""Nodes that hold an ordinary array and only change how it is multiplied."""

import dataclasses
from typing import Any, Self

import jax
from fx_core.array_node import ArrayNode
from fx_core.typing import Dtype

__all__ = ["Held"]


class Held(ArrayNode):
    """Base of dataclasses with a field ``array``, which they stand for.

    Attributes:
      array: the array.
    """

    array: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """Dtype of the array."""
        return self.array.dtype

    def astype(self, dtype: Dtype) -> Self:
        """Returns the same with the array in another dtype."""
        return dataclasses.replace(self, array=self.array.astype(dtype))  # type: ignore[type-var]

    def materialize(self) -> jax.Array:
        """Returns the array."""
        return self.array

    def masked(self, mask: Any) -> Self:
        """Returns the same with the array times a mask."""
        return dataclasses.replace(self, array=self.array * mask)  # type: ignore[type-var]
