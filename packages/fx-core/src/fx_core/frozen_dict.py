"""Immutable dictionaries: nested, hashable, and a pytree.

>>> params = freeze({"dense": {"bias": 0.0}})
>>> params.copy({"scale": 1.0})
FrozenDict({
    dense: {
        bias: 0.0,
    },
    scale: 1.0,
})
"""

from collections.abc import Hashable, Iterator, KeysView, Mapping, ValuesView
from types import MappingProxyType
from typing import Any, TypeVar

import jax

from fx_core.errors.kinds import ArgumentTypeError, ImmutableError

__all__ = ["FrozenDict", "FrozenKeysView", "FrozenValuesView", "copy", "freeze", "pop", "pretty_repr", "unfreeze"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class FrozenKeysView(KeysView[K]):
    """The keys of a `FrozenDict`."""

    def __repr__(self) -> str:
        return f"frozen_dict_keys({list(self)})"


class FrozenValuesView(ValuesView[V]):
    """The values of a `FrozenDict`."""

    def __repr__(self) -> str:
        return f"frozen_dict_values({list(self)})"


class FrozenDict(Mapping[K, V]):
    """An immutable dictionary whose nested dictionaries are immutable as well.

    It copies the dictionaries it is made from (not the values in them), so that it cannot be changed through another
    reference. It is a pytree with its keys in sorted order, equal to a dict with equal items, and hashable if its
    values are.

    Args:
      *args: as for `dict`.
      __unsafe_skip_copy__: take the dictionary itself. Only for one without another reference and with no
        `FrozenDict` inside.
      **kwargs: as for `dict`.

    >>> import fx_core
    >>> variables = fx_core.FrozenDict({"params": {"kernel": 1.0}})
    >>> variables["params"]["kernel"]
    1.0
    >>> changed = variables.copy({"step": 3})
    >>> sorted(changed), sorted(variables)
    (['params', 'step'], ['params'])
    """

    __slots__ = ("_dict", "_hash")

    _dict: dict[Any, Any]
    _hash: int | None

    def __init__(self, *args: Any, __unsafe_skip_copy__: bool = False, **kwargs: Any):
        items = dict(*args, **kwargs)
        self._dict = items if __unsafe_skip_copy__ else _thawed(items)
        self._hash = None

    def __getitem__(self, key: K) -> V:
        value = self._dict[key]
        return _frozen(value) if type(value) is dict else value  # type: ignore[return-value]

    def __setitem__(self, key: K, value: V) -> None:
        raise _frozen_dict_immutable(key)

    def __delitem__(self, key: K) -> None:
        raise _frozen_dict_immutable(key)

    def __contains__(self, key: object) -> bool:
        return key in self._dict

    def __iter__(self) -> Iterator[K]:
        return iter(self._dict)

    def __len__(self) -> int:
        return len(self._dict)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenDict):
            return self._dict == other._dict
        return self._dict == other if isinstance(other, dict) else NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.items()))
        return self._hash

    def __repr__(self) -> str:
        return self.pretty_repr()

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (self.unfreeze(),)

    def keys(self) -> FrozenKeysView[K]:
        """Returns the keys."""
        return FrozenKeysView(self)

    def values(self) -> FrozenValuesView[V]:
        """Returns the values, nested dictionaries frozen."""
        return FrozenValuesView(self)

    def items(self) -> Iterator[tuple[K, V]]:  # type: ignore[override]
        """Iterates over pairs of key and value, nested dictionaries frozen."""
        for key in self._dict:
            yield key, self[key]

    def get(self, key: K, default: Any = None) -> Any:
        """Returns the value of ``key``, or ``default``."""
        return self[key] if key in self._dict else default

    def copy(self, add_or_replace: Mapping[K, V] = _NOTHING) -> "FrozenDict[K, V]":
        """Returns a new one with the items of ``add_or_replace`` added or in place of the old ones."""
        return _frozen({**self._dict, **_thawed(add_or_replace)})

    def pop(self, key: K) -> tuple["FrozenDict[K, V]", V]:
        """Returns a new one without ``key``, and the value it had.

        Raises:
          KeyError: there is no such key.
        """
        value = self[key]
        return _frozen({k: v for k, v in self._dict.items() if k != key}), value

    def unfreeze(self) -> dict[K, V]:
        """Returns a copy as a plain dictionary with plain dictionaries inside."""
        return _thawed(self._dict)

    def pretty_repr(self, num_spaces: int = 4) -> str:
        """Returns a text with one item a line, each level indented by ``num_spaces``."""
        return f"FrozenDict({_pretty(self._dict, num_spaces)})"

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        """Returns the children with their keys, and the sorted keys."""
        keys = tuple(sorted(self._dict))
        return tuple((jax.tree_util.DictKey(key), self._dict[key]) for key in keys), keys

    @classmethod
    def tree_unflatten(cls, keys: tuple[Any, ...], values: Any) -> "FrozenDict[Any, Any]":
        """Builds one from what `tree_flatten_with_keys` gave."""
        # JAX hands over fresh containers and, while it works, any object as a leaf: nothing to copy, nothing to check.
        return _frozen(dict(zip(keys, values)))


def _flatten(frozen: FrozenDict[Any, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    keys = tuple(sorted(frozen._dict))
    return tuple(frozen._dict[key] for key in keys), keys


jax.tree_util.register_pytree_with_keys(
    FrozenDict, FrozenDict.tree_flatten_with_keys, FrozenDict.tree_unflatten, flatten_func=_flatten
)


def _frozen(items: dict[Any, Any]) -> FrozenDict[Any, Any]:
    frozen = FrozenDict.__new__(FrozenDict)
    frozen._dict, frozen._hash = items, None
    return frozen


def _thawed(items: Mapping[Any, Any]) -> dict[Any, Any]:
    """Copy nested dictionaries; whatever else is inside stays the same object."""
    source = items._dict if isinstance(items, FrozenDict) else items
    return {k: _thawed(v) if isinstance(v, dict | FrozenDict) else v for k, v in source.items()}


def _copied(items: dict[Any, Any]) -> dict[Any, Any]:
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in items.items()}


def freeze(xs: Mapping[Any, Any]) -> FrozenDict[Any, Any]:
    """Creates a nested dictionary immutable.

    >>> freeze({"a": {"b": 1}})["a"]
    FrozenDict({
        b: 1,
    })
    """
    return FrozenDict(xs)


def unfreeze(x: Any) -> Any:
    """Copies a `FrozenDict`, or a dict with some inside, into plain dictionaries; give anything else back as it is.

    >>> unfreeze(freeze({"a": {"b": 1}}))
    {'a': {'b': 1}}
    """
    return _thawed(x) if isinstance(x, dict | FrozenDict) else x


def copy(x: Any, add_or_replace: Mapping[Any, Any] = _frozen({})) -> Any:
    """Copies a dictionary of either kind, with items added or replaced.

    >>> copy({"a": 1}, {"b": 2})
    {'a': 1, 'b': 2}

    Raises:
      ArgumentTypeError: ``x`` is no dictionary.
    """
    if isinstance(x, FrozenDict):
        return x.copy(add_or_replace)
    if isinstance(x, dict):
        return {**_copied(x), **add_or_replace}
    raise _frozen_dict_type(x)


def pop(x: Any, key: Any) -> tuple[Any, Any]:
    """Returns a dictionary of either kind without ``key``, and the value it had.

    >>> pop({"a": 1, "b": 2}, "a")
    ({'b': 2}, 1)

    Raises:
      ArgumentTypeError: ``x`` is no dictionary.
      KeyError: there is no such key.
    """
    if isinstance(x, FrozenDict):
        return x.pop(key)
    if isinstance(x, dict):
        return {k: v for k, v in x.items() if k != key}, x[key]
    raise _frozen_dict_type(x)


def pretty_repr(x: Any, num_spaces: int = 4) -> str:
    """Returns a text of a nested dictionary of either kind, one item a line; of anything else its `repr`.

    >>> print(pretty_repr({"a": {"b": 1}, "c": {}}, 2))
    {
      a: {
        b: 1,
      },
      c: {},
    }
    """
    if isinstance(x, FrozenDict):
        return x.pretty_repr(num_spaces)
    return _pretty(x, num_spaces) if isinstance(x, dict) else repr(x)


def _pretty(x: Any, num_spaces: int) -> str:
    if isinstance(x, FrozenDict):
        x = x._dict
    if not isinstance(x, dict):
        return repr(x)
    if not x:
        return "{}"
    indent = " " * num_spaces
    lines = "".join(f"{key}: {_pretty(value, num_spaces)},\n" for key, value in x.items())
    return "{\n" + "".join(f"{indent}{line}\n" for line in lines.splitlines()) + "}"


def _frozen_dict_immutable(key: Any) -> ImmutableError:
    return ImmutableError(
        f"A FrozenDict is immutable: the item {key!r} cannot be set or deleted.",
        fix="Make a changed copy with `copy({...})` or `pop(key)`, or a plain dictionary with `unfreeze()`.",
    )


def _frozen_dict_type(got: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        "This function works on dictionaries.",
        expected="a FrozenDict or a dict",
        got=f"{type(got).__name__}: {got!r}",
        fix="Pass a dictionary.",
    )
