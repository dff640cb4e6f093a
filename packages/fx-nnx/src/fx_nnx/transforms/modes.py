"""How arguments and results go through a transform: the choices that ``graph`` and ``graph_updates`` stand for."""

from typing import NamedTuple

from fx_nnx.modes import set_graph_mode, set_graph_updates

__all__ = ["FULL", "Carriage", "carriage"]


class Carriage(NamedTuple):
    """How object graphs are carried.

    Attributes:
      shared: whether an object may be reachable on several paths.
      updates: whether changes of structure reach the caller's objects, and results may be, or refer to, what the
        caller has. Without, only the values of variables reach the caller.
    """

    shared: bool
    updates: bool


FULL = Carriage(True, True)


def carriage(graph: bool | None, graph_updates: bool | None) -> Carriage:
    """Returns what the options of a transform stand for; None is the setting that counts now."""
    shared = set_graph_mode.resolve(graph)
    return Carriage(shared, shared and set_graph_updates.resolve(graph_updates))
