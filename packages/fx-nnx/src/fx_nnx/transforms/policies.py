"""How arguments, their groups and results go through a transform: the choices that an `ObjectCarrier` follows."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from fx_nnx.modes import set_graph_mode, set_graph_updates

__all__ = ["FULL", "PLAIN", "GraphMode", "GroupPolicy", "Grouper", "Grouping", "ResultPolicy", "Returns", "graph_mode"]


class GraphMode(NamedTuple):
    """How references and changes of structure are treated.

    Attributes:
      shared: whether an object may be reachable on several paths.
      updates: whether changes of structure reach the caller's objects, and results may be, or refer to, what the
        caller has. Without, only the values of variables reach the caller.
    """

    shared: bool
    updates: bool


FULL = GraphMode(True, True)


def graph_mode(graph: bool | None, graph_updates: bool | None) -> GraphMode:
    """Returns what the options of a transform stand for; None is the setting that counts now."""
    shared = set_graph_mode.resolve(graph)
    return GraphMode(shared, shared and set_graph_updates.resolve(graph_updates))


class Returns(enum.Enum):
    """Which values of a group come back."""

    CHANGED = "changed"
    """Those that the function has changed."""
    ALL = "all"
    """All, into the next step or out of each branch."""
    WRITTEN = "written"
    """All, and variables count as written: the caller's buffers are gone, or are to be laid out."""
    NONE = "none"
    """None: they must not be changed."""


class GroupPolicy(NamedTuple):
    """What becomes of one group.

    Attributes:
      axis: what the group stands for: an axis or anything that means something to the user.
      returns: which of its values come back.
    """

    axis: Any = None
    returns: Returns = Returns.CHANGED


Grouper = Callable[[Any], Callable[[int, tuple[Any, ...], Any], int]]
"""Given a tree: ``(leaf number, path inside the leaf, variable or array) -> group``."""


class Grouping(NamedTuple):
    """Which group a value belongs to.

    Attributes:
      ins: groups of the arguments' values.
      outs: groups of the result's values; None leaves arrays of the result where they are.
      fresh: the group of new variables in results, where ``outs`` is None.
      check: whether to make sure that state reachable on two ways is in one group, results too if ``outs`` groups them.
      steady: what ``ins`` depends on beside the structure of arguments, if that is all: its verdict lasts as long.
    """

    ins: Grouper
    outs: Grouper | None = None
    fresh: int = 0
    check: bool = False
    steady: Any = None


class ResultPolicy(NamedTuple):
    """What results may be, and how they come out.

    Attributes:
      emptied: what stands for a result whose arrays are in groups.
      passing: whether variables of arguments that are in the result count as written.
      alias: without updates, whether results may nevertheless be what the arguments are; they come out as copies.
      outside: whether results may hold variables that the function has from outside; they come out as copies.
    """

    emptied: Any = ()
    passing: bool = False
    alias: bool = False
    outside: bool = False


PLAIN = ResultPolicy()
