"""Flat states: pairs of path and leaf."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self

import jax

from fx_nnx.errors import NnxError
from fx_nnx.filters import Filter, Predicate, filters_to_predicates
from fx_nnx.paths import Path, key_order, show_path

__all__ = ["FlatState", "one_or_all", "partition"]


class FlatState(Sequence[tuple[Path, Any]]):
    """A sequence of pairs (path, leaf), in the order of the paths.

    >>> flat = FlatState([(("b",), 2), (("a", 0), 1)], sort=True)
    >>> flat.paths, flat.leaves
    ((('a', 0), ('b',)), [1, 2])

    Args:
      items: the pairs.
      sort: whether they have to be sorted first.
    """

    __slots__ = ("_leaves", "_paths")

    to_nested_state: ClassVar[Any]

    def __init__(self, items: Iterable[tuple[Path, Any]], /, *, sort: bool):
        pairs = list(items)
        if sort:
            pairs.sort(key=lambda pair: tuple(key_order(key) for key in pair[0]))
        self._paths: Sequence[Path] = [path for path, _ in pairs]
        self._leaves: Sequence[Any] = [leaf for _, leaf in pairs]

    @classmethod
    def from_sorted_keys_values(cls, keys: Sequence[Path], values: Sequence[Any], /) -> Self:
        """Creates one from paths that are sorted already, and their leaves."""
        self = object.__new__(cls)
        self._paths, self._leaves = keys, values
        return self

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths."""
        return tuple(self._paths)

    @property
    def leaves(self) -> list[Any]:
        """The leaves, in the order of the paths."""
        return list(self._leaves)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return FlatState.from_sorted_keys_values(self._paths[index], self._leaves[index])
        return self._paths[index], self._leaves[index]

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[tuple[Path, Any]]:
        return iter(zip(self._paths, self._leaves))

    def __repr__(self) -> str:
        return f"FlatState({list(self)!r})"

    def split(self, first: Filter, /, *filters: Filter) -> Any:
        """Returns one flat state per filter; each leaf goes to the first filter that matches.

        Raises:
          NnxError: no filter matches some leaf.
        """
        return self._select((first, *filters), exhaustive=True)

    def filter(self, first: Filter, /, *filters: Filter) -> Any:
        """Returns one flat state per filter; leaves that none matches are left out."""
        return self._select((first, *filters), exhaustive=False)

    def _select(self, filters: tuple[Filter, ...], *, exhaustive: bool) -> Any:
        parts = partition(self._paths, self._leaves, filters_to_predicates(filters), exhaustive=exhaustive)
        made = tuple(FlatState([self[i] for i in part], sort=False) for part in parts)
        return one_or_all(made)

    @staticmethod
    def merge(flat_state: Iterable[tuple[Path, Any]], /, *flat_states: Iterable[tuple[Path, Any]]) -> "FlatState":
        """Returns one flat state with the leaves of all; later ones win."""
        leaves = dict(flat_state)
        for other in flat_states:
            leaves.update(other)
        return FlatState(leaves.items(), sort=True)


def one_or_all(parts: Sequence[Any]) -> Any:
    """Returns the one part if there is one, or else a tuple of all."""
    return tuple(parts) if len(parts) != 1 else parts[0]


def partition(
    paths: Sequence[Path], leaves: Sequence[Any], predicates: Sequence[Predicate], *, exhaustive: bool
) -> list[list[int]]:
    """Returns for each predicate the positions of the leaves that it is the first to match.

    Raises:
      NnxError: ``exhaustive``, and some leaf is matched by none.
    """
    groups: list[list[int]] = [[] for _ in predicates]
    rest: list[Path] = []
    for i, (path, leaf) in enumerate(zip(paths, leaves)):
        for group, matches in zip(groups, predicates):
            if matches(path, leaf):
                group.append(i)
                break
        else:
            rest.append(path)
    if exhaustive and rest:
        raise _non_exhaustive_filters(rest)
    return groups


jax.tree_util.register_pytree_with_keys(
    FlatState,
    lambda flat: ([(jax.tree_util.DictKey(path), leaf) for path, leaf in flat], tuple(flat._paths)),
    lambda paths, leaves: FlatState.from_sorted_keys_values(paths, list(leaves)),
    lambda flat: (list(flat._leaves), tuple(flat._paths)),
)


def _non_exhaustive_filters(rest: Sequence[Sequence[Any]]) -> NnxError:
    shown = ", ".join(show_path(path) for path in rest[:5]) + (", …" if len(rest) > 5 else "")
    return NnxError(
        f"The filters leave {len(rest)} value(s) over.",
        path=show_path(rest[0]),
        expected="filters that match every value",
        got=f"no filter for {shown}",
        fix="add `...` as the last filter",
    )
