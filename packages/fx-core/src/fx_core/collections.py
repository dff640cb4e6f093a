"""What plugins say about their variable collections, for whoever makes, maps and stores variables."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fx_core.plugins.registry import registry
from fx_core.scope import CollectionFilter, DenyList, in_filter

__all__ = ["default_slots", "made_by_init", "saved"]


def made_by_init() -> DenyList:
    """Returns the filter of the collections that ``init`` makes, unless its caller says otherwise.

    >>> from fx_core.scope import in_filter
    >>> in_filter(made_by_init(), "params"), in_filter(made_by_init(), "intermediates")
    (True, False)
    """
    return DenyList(tuple(name for name, entry in registry().collections.items() if not entry.mutable_in_init))


def default_slots(
    transform: Literal["vmap", "scan"], named: Iterable[CollectionFilter]
) -> dict[str, int | Literal["broadcast", "carry"]]:
    """Returns the places of third parties' collections in a transform whose caller names others.

    The collections of fx itself have no default place: a transform that does not name one has it not.

    Args:
      transform: which one.
      named: the filters of collections that its caller gave.

    >>> "batch_stats" in default_slots("scan", ["params"])
    False
    """
    entries = {name: entry for name, entry in registry().collections.items() if "." in name}
    if not entries:
        return {}
    given = list(named)
    return {
        name: entry.vmap_slot if transform == "vmap" else entry.scan_slot
        for name, entry in entries.items()
        if not any(in_filter(one, name) for one in given)
    }


def saved(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns variables without the collections that are not meant to be stored.

    These are sown values of fx, such as ``intermediates``, and collections that a plugin registers with
    ``saved=False``. Collections that are not registered are kept.

    >>> saved({"params": {"w": 1}, "intermediates": {"h": (2,)}, "mine": {}})
    {'params': {'w': 1}, 'mine': {}}

    Args:
      variables: by collection.
    """
    entries = registry().collections
    return {name: tree for name, tree in variables.items() if name not in entries or entries[name].saved}
