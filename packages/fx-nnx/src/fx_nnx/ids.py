"""Names for objects that are equal to nothing else."""

import itertools
from typing import Self

__all__ = ["UUID", "uuid"]

_numbers = itertools.count(1)


class UUID:
    """A hashable thing that is only equal to itself; a copy is another one.

    >>> import copy
    >>> one = uuid()
    >>> one == one, one == copy.copy(one)
    (True, False)
    """

    __slots__ = ("_number",)

    def __init__(self):
        self._number = next(_numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UUID) and other._number == self._number

    def __hash__(self) -> int:
        return hash((UUID, self._number))

    def __copy__(self) -> Self:
        return type(self)()

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def __repr__(self) -> str:
        return f"UUID({self._number})"


def uuid() -> UUID:
    """Returns a new one."""
    return UUID()
