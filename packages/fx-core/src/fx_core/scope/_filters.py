"""Filters: which collections, or which RNG streams, something applies to.

A filter is ``True`` (all), ``False`` (none), a name, a collection of names, or a `DenyList` (all but some). Whatever
the operations below return is one of ``True``, ``False``, a frozenset of names, or a `DenyList` of such, and hashable.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from fx_core.errors.scope import InvalidFilterError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class DenyList:
    """A filter for everything but what ``deny`` describes. Filters that let the same through are equal.

    >>> in_filter(DenyList("params"), "batch_stats")
    True
    >>> DenyList("params") == DenyList(["params"]), DenyList(False) == True
    (True, True)

    Args:
      deny: a filter.
    """

    deny: "Filter"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (bool, str, Collection, DenyList)):
            return NotImplemented
        return _names(self) == _names(other)

    def __hash__(self) -> int:
        names, others = _names(self)
        if others:
            return hash((names, others)) if names else hash(True)
        return hash(names)


Filter: TypeAlias = bool | str | Collection[str] | DenyList
CollectionFilter: TypeAlias = Filter
PRNGSequenceFilter: TypeAlias = Filter


def _names(filter_like: Filter) -> tuple[frozenset[str], bool]:
    """Names, and whether the filter means all others."""
    if isinstance(filter_like, bool):
        return frozenset(), filter_like
    if isinstance(filter_like, str):
        return frozenset((filter_like,)), False
    if isinstance(filter_like, DenyList):
        names, others = _names(filter_like.deny)
        return names, not others
    if isinstance(filter_like, Collection):
        return frozenset(filter_like), False
    raise InvalidFilterError(filter_like)


def _filter(names: frozenset[str], others: bool) -> Filter:
    if others:
        return DenyList(names) if names else True
    return names


def _normal(filter_like: Filter) -> Filter:
    return filter_like if isinstance(filter_like, bool) else _filter(*_names(filter_like))


def union_filters(a: Filter, b: Filter) -> Filter:
    """Returns everything that ``a`` or ``b`` lets through.

    >>> union_filters(DenyList(["params", "cache"]), "cache")
    DenyList(deny=frozenset({'params'}))
    """
    (a_names, a_others), (b_names, b_others) = _names(a), _names(b)
    if a_others and b_others:
        return _filter(a_names & b_names, True)
    if a_others:
        return _filter(a_names - b_names, True)
    if b_others:
        return _filter(b_names - a_names, True)
    return _filter(a_names | b_names, False)


def intersect_filters(a: Filter, b: Filter) -> Filter:
    """Returns everything that both ``a`` and ``b`` let through.

    >>> intersect_filters(["params", "cache"], DenyList("params"))
    frozenset({'cache'})
    """
    if a is True or b is True:
        return _normal(b if a is True else a)
    (a_names, a_others), (b_names, b_others) = _names(a), _names(b)
    if a_others and b_others:
        return _filter(a_names | b_names, True)
    if a_others:
        return _filter(b_names - a_names, False)
    if b_others:
        return _filter(a_names - b_names, False)
    return _filter(a_names & b_names, False)


def subtract_filters(a: Filter, b: Filter) -> Filter:
    """Returns everything that ``a`` lets through and ``b`` does not.

    >>> subtract_filters(True, "params")
    DenyList(deny=frozenset({'params'}))
    """
    return intersect_filters(a, False if b is True else DenyList(b))


def in_filter(filter_like: Filter, col: str) -> bool:
    """Returns whether ``filter_like`` lets the collection ``col`` through.

    Raises:
      InvalidFilterError: it is no filter.
    """
    if isinstance(filter_like, bool):
        return filter_like
    if isinstance(filter_like, str):
        return col == filter_like
    if isinstance(filter_like, DenyList):
        return not in_filter(filter_like.deny, col)
    if isinstance(filter_like, Collection):
        return col in filter_like
    raise InvalidFilterError(filter_like)


def is_filter_empty(filter_like: Filter) -> bool:
    """Returns whether ``filter_like`` lets nothing through."""
    names, others = _names(filter_like)
    return not names and not others


def filter_to_set(x: Filter) -> set[str]:
    """Returns the names that a finite filter lets through.

    Raises:
      InvalidFilterError: it lets infinitely many names through, or is no filter.
    """
    names, others = _names(x)
    if others:
        raise InvalidFilterError(x, "This filter lets infinitely many names through and cannot become a set.")
    return set(names)


def group_collections(xs: Mapping[str, T], col_filters: Sequence[Filter]) -> tuple[Mapping[str, T], ...]:
    """Deals collections out to groups, each to the first filter that lets it through.

    >>> group_collections({"params": 1, "cache": 2, "losses": 3}, ["params", DenyList("cache")])
    ({'params': 1}, {'losses': 3})

    Args:
      xs: collections by name.
      col_filters: one filter per group.

    Returns:
      A dictionary per filter. A collection that no filter lets through is in none of them.
    """
    groups: list[dict[str, Any]] = [{} for _ in col_filters]
    for col, value in xs.items():
        for group, col_filter in zip(groups, col_filters):
            if in_filter(col_filter, col):
                group[col] = value
                break
    return tuple(groups)
