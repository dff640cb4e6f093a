"""Whether the steps of a run change its state in place, as those of NNX do, or make a new one."""

import dataclasses
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import jax
import numpy as np

__all__ = ["InPlace"]

_STEPS = 3
_DEPTH = 64


class InPlace:
    """Finds out whether a run is given the same objects step after step, whose values the next step changes.

    The state of the last step is then no longer there once the next one has begun. To compare all values would take as
    long as to dispatch a step. So only the objects on one path through each part of the state are compared, in the
    first steps of a run.

    >>> watch, variable = InPlace(), {"value": 1}
    >>> watch.start(({"w": variable}, 0))
    >>> watch.record(({"w": variable}, 1))
    >>> watch.found
    True
    """

    def __init__(self) -> None:
        self.found = False
        self._steps = 0
        self._before: list[Any] = []
        self._first: frozenset[int] | None = None

    def start(self, state: Any) -> None:
        """Takes the state before the first step; keeps nothing of it, since it takes memory."""
        self._first = frozenset(map(id, _objects(state)))

    def record(self, state: Any) -> None:
        """Takes the state after a step."""
        if self._steps == _STEPS:
            return
        objects, self._steps = list(_objects(state)), self._steps + 1
        if self._before:
            same = [each for each in objects if any(each is before for before in self._before)]
        elif self._first is not None:
            same = [each for each in objects if id(each) in self._first]
        else:
            # Nothing is known of dictionaries and lists; objects of classes that can change are taken to do so.
            same = [each for each in objects if not isinstance(each, dict | list)]
        self.found = any(map(_holds_something, same))
        self._before = [] if self._steps == _STEPS else objects


def _objects(state: Any) -> Iterator[Any]:
    """Yields what can change on a path to one leaf of each part of a state."""
    for part in state if type(state) in (tuple, list) else (state,):
        for _ in range(_DEPTH):
            if not _never_changes(part):
                yield part
            below = [each for each in _children(part) if isinstance(each, np.ndarray) or not _is_leaf(each)]
            if not below:
                break
            part = below[-1]
    if type(state) is list:
        yield state


def _children(node: Any) -> list[Any]:
    return jax.tree.leaves(node, is_leaf=lambda each: each is not node)


def _is_leaf(node: Any) -> bool:
    return jax.tree_util.all_leaves([node])


def _holds_something(node: Any) -> bool:
    """Whether there are values in a node; in functions and definitions of graphs there are none."""
    return isinstance(node, np.ndarray) or any(leaf is not node for leaf in jax.tree.leaves(node))


def _never_changes(node: Any) -> bool:
    if isinstance(node, Mapping):
        return not isinstance(node, MutableMapping)
    if dataclasses.is_dataclass(node):
        return bool(type(node).__dataclass_params__.frozen)  # pyright: ignore[reportAttributeAccessIssue]
    return isinstance(node, tuple | jax.Array | np.generic | int | float | complex | str | bytes | type(None))
