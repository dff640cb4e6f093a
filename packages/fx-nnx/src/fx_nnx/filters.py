"""Filters: which values of a model, by type, tag and path.

Wherever a filter is expected, these may stand: a variable type (`OfType`), a string (`WithTag`), ``...`` or ``True``
(`Everything`), ``None`` or ``False`` (`Nothing`), a list or tuple of filters (`Any`), or any function
``(path, value) -> bool``.
"""

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any as Anything

from fx_core.errors import ArgumentTypeError

from fx_nnx.errors import NnxError

__all__ = [
    "All",
    "Any",
    "Everything",
    "Filter",
    "Not",
    "Nothing",
    "OfType",
    "PathContains",
    "PathIn",
    "Predicate",
    "StructuralFilter",
    "WithTag",
    "filters_to_predicates",
    "is_structural",
    "to_predicate",
]

Predicate = Callable[[tuple[Anything, ...], Anything], bool]
Filter = EllipsisType | bool | None | str | type | Sequence[Anything] | Predicate


class StructuralFilter:
    """A filter with arguments, equal to another of its class with equal arguments.

    It looks at path, type and metadata only, so that its verdict lasts as long as the structure of a model.
    """

    _arguments: tuple[Anything, ...]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._arguments == self._arguments

    def __hash__(self) -> int:
        return hash((type(self), self._arguments))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._arguments))})"

    @property
    def parts(self) -> tuple[Predicate, ...]:
        """The filters that the verdict depends on."""
        return ()


class Everything(StructuralFilter):
    """Matches every value.

    >>> import fx_nnx as nnx
    >>> nnx.Everything()(("bias",), 1.0)
    True
    """

    def __init__(self):
        self._arguments = ()

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        return True


class Nothing(StructuralFilter):
    """Matches no value.

    >>> import fx_nnx as nnx
    >>> nnx.Nothing()(("bias",), 1.0)
    False
    """

    def __init__(self):
        self._arguments = ()

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        return False


class OfType(StructuralFilter):
    """Matches variables of a type and of the types derived from it, and other values of that type.

    >>> import fx_nnx as nnx
    >>> is_param = nnx.OfType(nnx.Param)  # the class itself, `nnx.Param`, is the same filter
    >>> is_param((), nnx.LoRAParam(1.0)), is_param((), nnx.BatchStat(1.0))
    (True, False)
    """

    def __init__(self, type: type):
        self._arguments = (type,)

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        wanted = self._arguments[0]
        return isinstance(x, wanted) or (
            isinstance(kind := getattr(x, "type", None), type) and issubclass(kind, wanted)
        )

    type = property(lambda self: self._arguments[0], doc="The wanted type.")


class WithTag(StructuralFilter):
    """Matches variables whose metadata ``tag`` is the given one, as that of RNG streams is their name.

    >>> import fx_nnx as nnx
    >>> list(nnx.state(nnx.Rngs(params=0, dropout=1), nnx.WithTag("dropout")))
    ['dropout']
    """

    def __init__(self, tag: str):
        self._arguments = (tag,)

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        return hasattr(x, "tag") and x.tag == self._arguments[0]

    tag = property(lambda self: self._arguments[0], doc="The wanted tag.")


class PathContains(StructuralFilter):
    """Matches values whose path has a key.

    Args:
      key: the key; with ``exact=False``, a piece of the text of a key.
      exact: whether the whole key has to match.

    >>> PathContains("kernel")(("layers", 0, "kernel"), None), PathContains("ker")(("layers", 0, "kernel"), None)
    (True, False)
    """

    def __init__(self, key: Anything, exact: bool = True):
        self._arguments = (key, exact)

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        key, exact = self._arguments
        return key in path if exact else any(str(key) in str(part) for part in path)

    key = property(lambda self: self._arguments[0], doc="The wanted key.")
    exact = property(lambda self: self._arguments[1], doc="Whether the whole key has to match.")

    def __repr__(self) -> str:
        return f"PathContains({self._arguments[0]!r}, exact={self._arguments[1]})"


class PathIn(StructuralFilter):
    """Matches values at the given paths, each a tuple of keys.

    >>> import fx_nnx as nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> list(nnx.state(layer, nnx.PathIn(("bias",))))
    ['bias']
    """

    def __init__(self, *paths: tuple[Anything, ...]):
        self._arguments = (frozenset(paths),)

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        return path in self._arguments[0]

    paths = property(lambda self: self._arguments[0], doc="The wanted paths.")


class All(StructuralFilter):
    """Matches what all the filters match.

    >>> All(int, PathContains("a"))(("a",), 1)
    True
    """

    def __init__(self, *filters: Filter):
        self._arguments = tuple(to_predicate(filter) for filter in filters)

    @property
    def parts(self) -> tuple[Predicate, ...]:
        """The filters inside."""
        return self._arguments

    predicates = parts

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        return all(matches(path, x) for matches in self._arguments)


class Any(StructuralFilter):
    """Matches what at least one of the filters matches.

    >>> import fx_nnx as nnx
    >>> either = nnx.Any(nnx.BatchStat, nnx.PathContains("bias"))
    >>> either(("bias",), nnx.Param(1.0)), either(("kernel",), nnx.Param(1.0))
    (True, False)
    """

    def __init__(self, *filters: Filter):
        self._arguments = tuple(to_predicate(filter) for filter in filters)

    @property
    def parts(self) -> tuple[Predicate, ...]:
        """The filters inside."""
        return self._arguments

    predicates = parts

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        return any(matches(path, x) for matches in self._arguments)


class Not(StructuralFilter):
    """Matches what a filter does not match.

    >>> import fx_nnx as nnx
    >>> layer = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> list(nnx.state(layer, nnx.Not(nnx.PathContains("bias"))))
    ['kernel']
    """

    def __init__(self, collection_filter: Filter, /):
        self._arguments = (to_predicate(collection_filter),)

    @property
    def parts(self) -> tuple[Predicate, ...]:
        """The filters inside."""
        return self._arguments

    predicates = parts

    def __call__(self, path: tuple[Anything, ...], x: Anything) -> bool:
        """Returns whether the value at the path matches."""
        return not self._arguments[0](path, x)

    predicate = property(lambda self: self._arguments[0], doc="The filter inside.")


_EVERYTHING, _NOTHING = Everything(), Nothing()


def to_predicate(filter: Filter) -> Predicate:
    """Converts whatever stands for a filter into a function ``(path, value) -> bool``.

    Raises:
      ArgumentTypeError: it does not stand for a filter.

    >>> to_predicate(["dropout", None])
    Any(WithTag('dropout'), Nothing())
    """
    if filter is ... or filter is True:
        return _EVERYTHING
    if filter is None or filter is False:
        return _NOTHING
    if isinstance(filter, str):
        return WithTag(filter)
    if isinstance(filter, type):
        return OfType(filter)
    if callable(filter):
        return filter
    if isinstance(filter, list | tuple):
        return Any(*filter)
    raise ArgumentTypeError(
        "Invalid filter.",
        expected="a variable type, a tag, a bool, `...`, None, a list of filters, or a function of (path, value)",
        got=repr(filter),
    )


def filters_to_predicates(filters: Sequence[Filter]) -> tuple[Predicate, ...]:
    """Converts the filters of a split into predicates.

    Raises:
      NnxError: one that matches everything is not among the last.
      ArgumentTypeError: something is no filter.
    """
    for index, filter in enumerate(filters):
        if (filter is ... or filter is True) and not all(rest is ... or rest is True for rest in filters[index + 1 :]):
            raise NnxError(
                "`...` and `True` can only be the last filters.",
                got=f"{filter!r} at index {index}",
                fix="move it to the end",
            )
    return tuple(to_predicate(filter) for filter in filters)


def is_structural(predicate: Predicate) -> bool:
    """Returns whether a predicate only looks at path, type and metadata, so that its verdict lasts as long as the
    structure.
    """
    return isinstance(predicate, StructuralFilter) and all(is_structural(part) for part in predicate.parts)
