"""Slot: the place of one group of state in a transform."""

import dataclasses
import enum
from typing import Final

__all__ = ["ABSENT", "CARRY", "KEYS", "SHARED", "Place", "Slot", "axis"]


class Place(enum.Enum):
    """The places of a group other than an array axis.

    >>> import fx_transforms
    >>> fx_transforms.Slot(fx_transforms.Place.KEYS, fx_transforms.Place.ABSENT) == fx_transforms.KEYS
    True
    """

    SHARED = "shared"
    """Every step sees the same values. What a step writes must be the same in all steps."""
    CARRY = "carry"
    """A step sees what the step before wrote. Only loops have it."""
    KEYS = "keys"
    """PRNG keys: every step gets a key of its own, split from the one given. Keys do not come out."""
    ABSENT = "absent"
    """The group does not cross the boundary in this direction."""

    def __repr__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one group goes on its way in and where it comes out.

    Attributes:
      into: an axis, negative counts from the end; or a `Place`.
      out: the same for the way out.

    >>> import fx_transforms
    >>> stacked = fx_transforms.Slot(into=0, out=-1)  # the first axis is mapped, and comes back as the last
    >>> fx_transforms.axis(0, -1) == stacked
    True
    """

    into: int | Place
    out: int | Place

    def unwritten(self) -> "Slot":
        """Returns the slot for a group that may not be written: a carry is shared then, and nothing comes out."""
        into = Place.SHARED if self.into is Place.CARRY else self.into
        return Slot(into, Place.ABSENT)


def axis(into: int | Place, out: int | Place | None = None) -> Slot:
    """Returns the slot of a group whose arrays are cut along an axis.

    Args:
      into: input axis.
      out: output axis, the input axis unless given.

    >>> axis(-1).out
    -1
    """
    return Slot(into, into if out is None else out)


SHARED: Final = Slot(Place.SHARED, Place.SHARED)
CARRY: Final = Slot(Place.CARRY, Place.CARRY)
KEYS: Final = Slot(Place.KEYS, Place.ABSENT)
ABSENT: Final = Place.ABSENT
