"""What plugins say about their variable collections, for whoever makes, maps and stores variables."""

import functools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from fx_core.lazy_imports import import_later
from fx_core.scope import CollectionFilter, DenyList, in_filter

if TYPE_CHECKING:
    from fx_core.plugins.entries import CollectionEntry
    from fx_core.plugins.registry import Registry
    from fx_core.plugins.table import EntryTable

__all__ = ["default_slots", "differentiable", "made_by_init", "not_saved", "saved", "variable_types"]


def made_by_init() -> DenyList:
    """Returns the filter of the collections that ``init`` makes, unless its caller says otherwise.

    >>> from fx_core.scope import in_filter
    >>> in_filter(made_by_init(), "params"), in_filter(made_by_init(), "intermediates")
    (True, False)
    """
    return DenyList(_NotMadeByInit())


class _NotMadeByInit(Collection[str]):
    """The collections that ``init`` leaves out. It is asked for names: only their plugins are imported."""

    def __contains__(self, name: object) -> bool:
        entry = _registered().get(name) if isinstance(name, str) else None
        return entry is not None and not entry.mutable_in_init

    def __iter__(self) -> Iterator[str]:
        return (name for name, entry in _registered().items() if not entry.mutable_in_init)

    def __len__(self) -> int:
        return sum(1 for _ in self)


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
    entries = _of_plugins()
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
    entries = _registered()
    return {name: tree for name, tree in variables.items() if name not in entries or entries[name].saved}


def differentiable(variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the collections of variables that gradients are taken with respect to, and the others.

    These are ``params`` and the collections that a plugin registers with ``differentiable=True``.

    >>> trained, rest = differentiable({"params": {"w": 1.0}, "batch_stats": {"mean": 0.0}})
    >>> trained, rest
    ({'params': {'w': 1.0}}, {'batch_stats': {'mean': 0.0}})

    Args:
      variables: by collection.
    """
    chosen = {"params", *(name for name, entry in _of_plugins().items() if entry.differentiable)}
    return (
        {name: tree for name, tree in variables.items() if name in chosen},
        {name: tree for name, tree in variables.items() if name not in chosen},
    )


def variable_types() -> "dict[type, CollectionEntry]":
    """Returns the collections of third parties by the NNX variable types that stand for them.

    Those whose package is not imported are left out: no variable of theirs exists.

    >>> variable_types()
    {}
    """
    found: dict[type, CollectionEntry] = {}
    for entry in _of_plugins().values():
        package = entry.target.partition(":")[0].partition(".")[0]
        # A type of fx stands for a collection of fx, also where a plugin borrows it.
        if package != "fx_nnx" and package in sys.modules:
            found[entry.load()] = entry
    return found


def not_saved() -> Callable[[Any, Any], bool] | None:
    """Returns a function that says whether a part of a pytree is a third party's collection that checkpoints leave out.

    It is called with the key of a container and what is there: a mapping under the name of the collection, or a
    variable of its NNX type. None where every collection is stored.
    """
    names = frozenset(name for name, entry in _of_plugins().items() if not entry.saved)
    if not names:
        return None
    types = variable_types()

    def leaves_out(key: Any, value: Any) -> bool:
        if isinstance(value, Mapping) and key in names:
            return True
        return next((not types[cls].saved for cls in type(value).__mro__ if cls in types), False)

    return leaves_out


def _registered() -> "EntryTable[CollectionEntry]":
    return _registry()().collections


@functools.cache  # asked for each variable of a network
def _registry() -> "Callable[[], Registry]":
    # Whoever imports a face waits for the plugin system only when the first model is initialized.
    return import_later("fx_core.plugins.registry").registry


def _of_plugins() -> "dict[str, CollectionEntry]":
    return {name: entry for name, entry in _registered().items() if "." in name}
