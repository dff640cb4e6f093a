"""What is known of the structure of a model that was just made of a definition."""

import collections
import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.record import Links, Record, joined, link
from fx_nnx.links import structure_lock
from fx_nnx.objects.pytree import Pytree
from fx_nnx.snapshots import has_hash
from fx_nnx.variables.fields import get_links, put_links

__all__ = ["MergedRecord", "is_known"]


def is_known(graphdef: GraphDef) -> bool:
    """Returns whether a walk through a model that was made of a definition would find just that.

    It would if a walk has found it, if it is of one object, and if it has a hash: a static value without one may be
    changed in place. Its models have to announce all changes.
    """
    if graphdef._record is None or graphdef.roots != 1 or not graphdef.nodes or not has_hash(graphdef):
        return False
    return issubclass(graphdef.nodes[0].type, Pytree)


class MergedRecord(Record):
    """The record that a walk through a new model would find, if its variables are as the definition says.

    Whether they are is looked at when the record is first used, which many models that are merged never see. Objects
    are linked to it when they are made, and variables then.

    Args:
      graphdef: the definition of the model, which `is_known`.
      leaves: the variables, in its order.
      fits: whether variables have the types and the metadata of the definition.

    Attributes:
      links: what the objects of the model are linked to.
    """

    __slots__ = ("_fits", "links")

    def __init__(self, graphdef: GraphDef, leaves: Sequence[Any], fits: Callable[[Sequence[Any]], bool]):
        super().__init__()
        self.graphdef, self.leaves, self._fits = graphdef, list(leaves), fits
        self.links = (weakref.ref(self),)
        self.contents.append((None, None))  # so that whoever uses the record asks first whether it holds

    def keep(self, root: Any) -> None:
        """Lets the model keep the record."""
        self.root, self.lasting = weakref.ref(root), True
        object.__setattr__(root, "_nnx_record", self)

    def holds(self) -> bool:
        """Returns whether the record is true of the variables."""
        with structure_lock:
            if self.contents and self.alive:
                # First, so that what other threads change from here on drops it.
                _link_all(self.leaves, self.links)
                if len({*map(id, self.leaves)}) == len(self.leaves) and self._fits(self.leaves):
                    self.contents = []
                else:
                    self.drop()
            return self.alive


def _link_all(variables: Sequence[Any], own: Links) -> None:
    """Link variables to a record: most often all of them are linked to the same, or to nothing."""
    held = list(map(get_links, variables))
    if not held:
        return
    first = held[0]
    if held.count(first) < len(held):
        for variable in variables:
            link(variable, own)
    elif first is None or own[0] is not first[-1]:
        links = own if first is None else joined(first, own)
        collections.deque(map(put_links, variables, itertools.repeat(links)), maxlen=0)
