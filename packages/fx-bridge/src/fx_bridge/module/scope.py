"""What a bridge module knows while ``init`` or ``apply`` runs."""

from collections.abc import Collection
from typing import Any

from fx_core.scope import CollectionFilter, DenyList, in_filter, is_filter_empty
from fx_nnx import Pytree

__all__ = ["Scope"]


class Scope(Pytree):
    """What a bridge module knows while ``init`` or ``apply`` runs; each module in it has its own with the same streams.

    >>> import fx_nnx as nnx
    >>> scope = Scope(nnx.Rngs(0), mutable=["batch_stats"])
    >>> scope.copy().rngs is scope.rngs
    True

    Args:
      rngs: the streams, shared by all modules.
      mutable: a filter, the collections that may change.
      initializing: whether ``init`` runs.

    Raises:
      InvalidFilterError: ``mutable`` is no filter.
    """

    def __init__(self, rngs: Any, mutable: CollectionFilter, *, initializing: bool = False):
        self.rngs = rngs
        if not isinstance(mutable, bool | str | DenyList):
            is_filter_empty(mutable)
            if isinstance(mutable, Collection):
                mutable = tuple(mutable)  # part of a structure that JAX compares, so it has to be hashable
        self.mutable = mutable
        self.initializing = initializing

    def copy(self) -> "Scope":
        """Returns a scope with the same streams."""
        return Scope(self.rngs, self.mutable, initializing=self.initializing)

    def may_create(self, collection: str) -> bool:
        """Returns whether variables of a collection may be made."""
        return self.initializing or in_filter(self.mutable, collection)
