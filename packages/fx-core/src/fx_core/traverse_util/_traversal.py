"""Traversals: reusable selections of parts of a tree, to read or to update without mutation."""

import copy
import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax

from fx_core.errors.kinds import ArgumentError, ArgumentTypeError, ItemNotFoundError
from fx_core.errors.tree import brief, flatten_type
from fx_core.frozen_dict import FrozenDict
from fx_core.traverse_util._flatten import empty_node, flatten_dict, unflatten_dict

Update = Callable[[Any], Any]


class Traversal(ABC):
    """A selection of parts of a tree.

    Start from `t_identity`, narrow with ``[key]``, ``.attribute``, `each`, `tree` and `filter`, then read the parts
    with `iterate` or get a copy of the tree in which they are changed with `update` or `set`.

    >>> traversal = t_identity["layers"].each()["rate"]
    >>> tree = {"layers": [{"rate": 1}, {"rate": 2}], "name": "net"}
    >>> list(traversal.iterate(tree))
    [1, 2]
    >>> traversal.update(lambda x: x * 10, tree)
    {'layers': [{'rate': 10}, {'rate': 20}], 'name': 'net'}
    """

    @abstractmethod
    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the selected parts of ``inputs``, one by one."""

    @abstractmethod
    def update(self, fn: Update, inputs: Any) -> Any:
        """Returns a copy of ``inputs`` in which ``fn`` was applied to the selected parts."""

    def set(self, values: Iterable[Any], inputs: Any) -> Any:
        """Returns a copy of ``inputs`` in which the selected parts are ``values``, in the order of `iterate`.

        Raises:
          ArgumentError: the number of values is not that of the parts.
        """
        given = list(values)
        selected = sum(1 for _ in self.iterate(inputs))
        if len(given) != selected:
            raise _traversal_count(len(given), selected)
        each = iter(given)
        return self.update(lambda _: next(each), inputs)

    def compose(self, other: "Traversal") -> "Traversal":
        """Selects with ``other`` inside of what this one selects."""
        return TraverseCompose(self, other)

    def merge(self, *traversals: "Traversal") -> "Traversal":
        """Selects what any of the traversals selects inside of what this one selects, one after the other."""
        return self.compose(TraverseMerge(*traversals))

    def each(self) -> "Traversal":
        """Selects the entries of lists and tuples and the values of dicts."""
        return self.compose(TraverseEach())

    def tree(self) -> "Traversal":
        """Selects the leaves of pytrees."""
        return self.compose(TraverseTree())

    def filter(self, fn: Callable[[Any], bool]) -> "Traversal":
        """Keeps the parts for which ``fn`` is true."""
        return self.compose(TraverseFilter(fn))

    def __getattr__(self, attr: str) -> "Traversal":
        if attr.startswith("__"):
            raise AttributeError(attr)  # Python's own protocols, such as copying, ask for these
        return self.compose(TraverseAttr(attr))

    def __getitem__(self, key: Any) -> "Traversal":
        return self.compose(TraverseItem(key))


class TraverseId(Traversal):
    """Selects the whole object."""

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the object."""
        yield inputs

    def update(self, fn: Update, inputs: Any) -> Any:
        """``fn(inputs)``."""
        return fn(inputs)


class TraverseCompose(Traversal):
    """Selects with one traversal inside of what another selects.

    Args:
      x: the outer traversal.
      y: the inner traversal.
    """

    def __init__(self, x: Traversal, y: Traversal):
        self._x, self._y = x, y

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns what ``y`` selects in each part that ``x`` selects."""
        for part in self._x.iterate(inputs):
            yield from self._y.iterate(part)

    def update(self, fn: Update, inputs: Any) -> Any:
        """Updates with ``y`` inside of ``x``."""
        return self._x.update(lambda part: self._y.update(fn, part), inputs)


class TraverseMerge(Traversal):
    """Selects what several traversals select, one after the other.

    Args:
      *traversals: the traversals.
    """

    def __init__(self, *traversals: Traversal):
        self._traversals = traversals

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the parts of each traversal in turn."""
        return itertools.chain.from_iterable(t.iterate(inputs) for t in self._traversals)

    def update(self, fn: Update, inputs: Any) -> Any:
        """Updates with each traversal in turn."""
        for traversal in self._traversals:
            inputs = traversal.update(fn, inputs)
        return inputs


class TraverseFilter(Traversal):
    """Selects the object if it fulfils a condition.

    Args:
      fn: the condition.
    """

    def __init__(self, fn: Callable[[Any], bool]):
        self._fn = fn

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the object, if it fulfils the condition."""
        if self._fn(inputs):
            yield inputs

    def update(self, fn: Update, inputs: Any) -> Any:
        """``fn(inputs)`` if the condition is fulfilled, else ``inputs``."""
        return fn(inputs) if self._fn(inputs) else inputs


class TraverseAttr(Traversal):
    """Selects an attribute of a named tuple, a dataclass or another object; updates change a copy of it.

    Args:
      attr: name of the attribute.
    """

    def __init__(self, attr: str):
        self._attr = attr

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the attribute."""
        yield self._get(inputs)

    def update(self, fn: Update, inputs: Any) -> Any:
        """Returns a copy with the attribute changed."""
        change = {self._attr: fn(self._get(inputs))}
        if _is_namedtuple(inputs):
            return inputs._replace(**change)
        if dataclasses.is_dataclass(inputs) and not isinstance(inputs, type):
            return dataclasses.replace(inputs, **change)
        changed = copy.copy(inputs)
        setattr(changed, self._attr, change[self._attr])
        return changed

    def _get(self, inputs: Any) -> Any:
        if not hasattr(inputs, self._attr):
            raise _traversal_type(f"attribute {self._attr!r}", "an object with this attribute", inputs)
        return getattr(inputs, self._attr)


class TraverseItem(Traversal):
    """Selects an entry of a dict, list or tuple, or with a slice several of a list or tuple.

    Args:
      key: key, index or slice.
    """

    def __init__(self, key: Any):
        self._key = key

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the entry, or the entries of the slice."""
        if isinstance(inputs, Mapping):
            return iter((self._lookup(inputs),))
        _need_sequence(f"[{self._key!r}]", inputs)
        return iter(inputs[self._key]) if isinstance(self._key, slice) else iter((self._lookup(inputs),))

    def update(self, fn: Update, inputs: Any) -> Any:
        """Returns a copy with the entries changed."""
        if isinstance(inputs, Mapping):
            return _like_mapping(inputs, {**inputs, self._key: fn(self._lookup(inputs))})
        _need_sequence(f"[{self._key!r}]", inputs)
        entries = list(inputs)
        if isinstance(self._key, slice):
            entries[self._key] = [fn(x) for x in entries[self._key]]
        else:
            entries[self._key] = fn(self._lookup(inputs))
        return _like_sequence(inputs, entries)

    def _lookup(self, inputs: Any) -> Any:
        try:
            return inputs[self._key]
        except LookupError:
            raise _traversal_lookup(self._key, inputs) from None


class TraverseEach(Traversal):
    """Selects the entries of a list or tuple, or the values of a dict."""

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the entries."""
        if isinstance(inputs, Mapping):
            return iter(inputs.values())
        _need_sequence("each entry", inputs)
        return iter(inputs)

    def update(self, fn: Update, inputs: Any) -> Any:
        """Returns a copy with every entry changed."""
        if isinstance(inputs, Mapping):
            return _like_mapping(inputs, {key: fn(value) for key, value in inputs.items()})
        _need_sequence("each entry", inputs)
        return _like_sequence(inputs, [fn(x) for x in inputs])


class TraverseTree(Traversal):
    """Selects the leaves of a pytree."""

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the leaves."""
        return iter(jax.tree.leaves(inputs))

    def update(self, fn: Update, inputs: Any) -> Any:
        """Returns a copy with every leaf changed."""
        return jax.tree.map(fn, inputs)


class ModelParamTraversal(Traversal):
    """Selects parameters of a nested dict by name and value, sorted by name.

    >>> params = {"dense": {"kernel": 2.0, "bias": 1.0}}
    >>> ModelParamTraversal(lambda path, _: "kernel" in path).update(lambda x: 0.5 * x, params)
    {'dense': {'bias': 1.0, 'kernel': 1.0}}

    Args:
      filter_fn: takes a path such as ``"/dense/kernel"`` and the value.
    """

    def __init__(self, filter_fn: Callable[[str, Any], bool]):
        self._filter_fn = filter_fn

    def iterate(self, inputs: Any) -> Iterator[Any]:
        """Returns the selected parameters."""
        for name, _, value in self._sorted(inputs):
            if self._chosen(name, value):
                yield value

    def update(self, fn: Update, inputs: Any) -> Any:
        """Returns a copy with the selected parameters changed."""
        flat = {path: fn(x) if self._chosen(name, x) else x for name, path, x in self._sorted(inputs)}
        nested = unflatten_dict(flat)
        return FrozenDict(nested) if isinstance(inputs, FrozenDict) else nested

    def _chosen(self, name: str, value: Any) -> bool:
        return value is not empty_node and self._filter_fn(name, value)

    def _sorted(self, inputs: Any) -> list[tuple[str, Any, Any]]:
        if not isinstance(inputs, Mapping):
            raise flatten_type("ModelParamTraversal", inputs)
        flat = flatten_dict(inputs, keep_empty_nodes=True)
        named = [("/" + "/".join(map(str, path)), path, value) for path, value in flat.items()]
        return sorted(named, key=lambda item: item[0])


t_identity = TraverseId()
"""The traversal that selects the whole object, where others start."""


def _is_namedtuple(x: Any) -> bool:
    return isinstance(x, tuple) and hasattr(x, "_fields")


def _need_sequence(traversal: str, inputs: Any) -> None:
    if not isinstance(inputs, list | tuple):
        raise _traversal_type(traversal, "a dict, list or tuple", inputs)


def _like_mapping(inputs: Mapping[Any, Any], items: dict[Any, Any]) -> Any:
    if isinstance(inputs, FrozenDict):
        return FrozenDict(items)
    changed: Any = copy.copy(inputs)  # ordered and default dicts keep their kind, which is part of a tree's structure
    changed.update(items)
    return changed


def _like_sequence(inputs: Any, entries: list[Any]) -> Any:
    return type(inputs)(*entries) if _is_namedtuple(inputs) else type(inputs)(entries)


def _traversal_type(traversal: str, expected: str, value: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"Cannot traverse {traversal} of this object.",
        expected=expected,
        got=f"{type(value).__name__}: {brief(value)}",
        fix="Select the right part of the tree first, by [key] or .attribute.",
    )


def _traversal_lookup(key: Any, value: Any) -> ItemNotFoundError:
    have = ", ".join(map(repr, value)) if hasattr(value, "keys") else f"{len(value)} entries"
    return ItemNotFoundError(
        f"No entry {key!r} to traverse.", expected=f"one of: {have}", got=repr(key), fix="Check the key."
    )


def _traversal_count(given: int, selected: int) -> ArgumentError:
    return ArgumentError(
        f"Too {'many' if given > selected else 'few'} values for this traversal.",
        expected=f"{selected} values",
        got=f"{given} values",
        fix="Count what the traversal selects with list(traversal.iterate(inputs)).",
    )
