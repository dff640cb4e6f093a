"""Slot: the place of one group of state in a transform."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Final

__all__ = ["ABSENT", "CARRY", "KEYS", "SHARED", "AxisHook", "Place", "Slot", "axis"]

AxisHook = Callable[[Any, int], Any] | None
"""``(group, axis) -> group``: is called when an array axis is removed or inserted, for metadata that names axes.
None where there is none."""


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
      enter: called before the transform with the group and its input axis, while the arrays still have that axis.
      leave: called after the transform with the new group and its output axis, when the arrays have that axis.

    >>> import fx_transforms
    >>> stacked = fx_transforms.Slot(into=0, out=-1)  # the first axis is mapped, and comes back as the last
    >>> fx_transforms.axis(0, -1) == stacked
    True
    """

    into: int | Place
    out: int | Place
    enter: AxisHook = None
    leave: AxisHook = None

    def opened(self, group: Any) -> Any:
        """Returns the group as it goes in."""
        return self.enter(group, self.into) if self.enter is not None and isinstance(self.into, int) else group

    def closed(self, group: Any) -> Any:
        """Returns the group as it comes back."""
        return self.leave(group, self.out) if self.leave is not None and isinstance(self.out, int) else group

    def unwritten(self) -> "Slot":
        """Returns the slot for a group that may not be written: a carry is shared then, and nothing comes out."""
        into = Place.SHARED if self.into is Place.CARRY else self.into
        return Slot(into, Place.ABSENT, self.enter, self.leave)


def axis(into: int | Place, out: int | Place | None = None, *, enter: AxisHook = None, leave: AxisHook = None) -> Slot:
    """Returns the slot of a group whose arrays are cut along an axis.

    Args:
      into: input axis.
      out: output axis, the input axis unless given.
      enter: see `Slot`.
      leave: see `Slot`.

    >>> axis(-1).out
    -1
    """
    return Slot(into, into if out is None else out, enter, leave)


SHARED: Final = Slot(Place.SHARED, Place.SHARED)
CARRY: Final = Slot(Place.CARRY, Place.CARRY)
KEYS: Final = Slot(Place.KEYS, Place.ABSENT)
ABSENT: Final = Place.ABSENT
