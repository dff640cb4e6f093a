"""Choosing entries of a tuple."""

from collections.abc import Sequence
from typing import Any

__all__ = ["Chosen"]


class Chosen:
    """Takes some entries out of a tuple and puts them back."""

    def __init__(self, indices: Sequence[int]):
        self.indices = tuple(indices)

    def take(self, items: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the chosen entries."""
        return tuple(items[i] for i in self.indices)

    def put(self, items: Sequence[Any], chosen: Sequence[Any]) -> tuple[Any, ...]:
        """Returns all entries, the chosen ones replaced."""
        new = dict(zip(self.indices, chosen))
        return tuple(new.get(i, item) for i, item in enumerate(items))

    def others(self, items: Sequence[Any]) -> tuple[Any, ...]:
        """Returns all entries, `None` for the chosen ones."""
        return tuple(None if i in self.indices else item for i, item in enumerate(items))
