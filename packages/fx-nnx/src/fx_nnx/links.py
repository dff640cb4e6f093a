"""How a change to an object reaches what was recorded about structures that contain it.

A record of a structure is linked to every object in it, see `fx_nnx.graph.record`. An object that changes in structure
announces it, which marks the records as no longer true. Records are held weakly: an object does not keep alive what was
recorded about it.
"""

import threading
import weakref
from typing import Any, Protocol

__all__ = ["announce", "structure_lock"]


class _Linked(Protocol):
    """An object that announces its structural changes."""

    _nnx_links: tuple[weakref.ref[Any], ...] | None


structure_lock = threading.RLock()
"""Held while a structure is read, and while a change of it is announced.

A change that falls into a walk is announced after it, and drops what the walk has found. Reentrant, since the garbage
collector may run anything while a thread holds it.
"""


def announce(obj: _Linked) -> None:
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
