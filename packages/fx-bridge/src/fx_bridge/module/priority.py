"""Which attribute owns what several attributes hold."""

import enum

__all__ = ["AttrPriority"]


class AttrPriority(enum.IntEnum):
    """Which attribute of a bridge module owns what several of them hold; the lowest number does, then the first name.

    What a compact method makes belongs to the attribute that it gave it a name by.

    >>> AttrPriority.HIGH < AttrPriority.INIT_PARENT < AttrPriority.DEFAULT
    True
    """

    HIGH = 0
    INIT_PARENT = 20
    DEFAULT = 50
    LOW = 100
