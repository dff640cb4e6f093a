"""How a change to an object reaches what was recorded about structures that contain it.

A record of a structure links itself to every object in it. An object that changes in structure announces it, which
marks the records as no longer true. Records are held weakly: an object does not keep alive what was recorded about it.
"""

import threading
import weakref
from typing import Any, Protocol

__all__ = ["Linked", "announce", "link", "structure_lock"]


class Record(Protocol):
    """Something that is true until an object it is linked to changes."""

    alive: bool

    def drop(self) -> None:
        """Be true no more."""
        ...


class Linked(Protocol):
    """An object that announces its structural changes."""

    _nnx_links: list[weakref.ref[Any]] | None


structure_lock = threading.RLock()
"""Held while a structure is read, and while a change of it is announced.

A change that falls into a walk is announced after it, and drops what the walk has found. Reentrant, since the garbage
collector may run anything while a thread holds it.
"""

_PRUNE_AT = 16


def link(obj: Linked, record: weakref.ref[Any]) -> None:
    """Lets a record die when ``obj`` announces a change.

    To be called before the structure of ``obj`` is read, by a thread that holds the `structure_lock`.
    """
    links = obj._nnx_links
    if links is None:
        object.__setattr__(obj, "_nnx_links", [record])
    elif record is not links[-1]:
        if len(links) >= _PRUNE_AT:
            links[:] = [ref for ref in links if (found := ref()) is not None and found.alive]
        links.append(record)


def announce(obj: Linked) -> None:
    """Announces that the structure of ``obj`` has changed. To be called after the change."""
    if obj._nnx_links is None:
        # A record that links itself from now on reads the object as it is now.
        return
    with structure_lock:
        links = obj._nnx_links
        object.__setattr__(obj, "_nnx_links", None)
        for ref in links or ():
            record = ref()
            if record is not None:
                record.drop()
