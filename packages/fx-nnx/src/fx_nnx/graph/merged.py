"""What is known of the structure of a model that was just made of a definition."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.record import Record, link
from fx_nnx.links import structure_lock
from fx_nnx.snapshots import has_hash

__all__ = ["hand_over"]


def hand_over(
    root: Any, graphdef: GraphDef, objects: Iterable[Any], leaves: Sequence[Any], fits: Callable[[Sequence[Any]], bool]
) -> None:
    """Gives a model that was made just now the record that a walk through it would find, where that is certain.

    It is if a walk has found the definition, all of it announces its changes, and no variable is in two places.

    Args:
      root: the model.
      graphdef: its definition.
      objects: all objects in it.
      leaves: its variables, in the order of the definition.
      fits: whether variables have the types and the metadata of the definition.
    """
    if graphdef._record is None or not graphdef.announces or len({*map(id, leaves)}) < len(leaves):
        return
    record = Record(root)
    if not record.lasting or not has_hash(graphdef):  # a static value without a hash may be changed in place
        return
    reference = weakref.ref(record)
    with structure_lock:
        for part in (*objects, *leaves):
            link(part, reference)
        if fits(leaves):  # still: other threads may have the variables, and what they change from here on drops it
            record.graphdef, record.leaves = graphdef, list(leaves)
            object.__setattr__(root, "_nnx_record", record)
