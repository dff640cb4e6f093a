"""Splitting and forking the RNG streams inside a model, in place with a way back, or in a copy."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fx_nnx import filters
from fx_nnx.errors import NnxError
from fx_nnx.filters import Filter, Predicate, to_predicate
from fx_nnx.graph.functions import clone
from fx_nnx.graph.iterate import iter_graph
from fx_nnx.modes import set_graph_mode, set_graph_updates
from fx_nnx.paths import Path, show_path
from fx_nnx.rngs.rngs import rules_of
from fx_nnx.rngs.stream import RngStream

__all__ = ["SplitBackups", "fork_rngs", "restore_rngs", "split_rngs", "with_rngs"]

_MISSING: Any = object()
Change = Callable[[Path, RngStream], Any]
"""Gives the new key of a stream and its new count, or None to leave it."""


class SplitBackups:
    """What streams were before a change: triples of stream, key and count; a context manager that restores them."""

    __slots__ = ("backups",)

    def __init__(self, backups: Iterable[tuple[RngStream, Any, Any]]):
        self.backups = list(backups)

    def __iter__(self) -> Iterator[tuple[RngStream, Any, Any]]:
        return iter(self.backups)

    def __enter__(self) -> "SplitBackups":
        return self

    def __exit__(self, *_: Any) -> None:
        restore_rngs(self)


def split_rngs(
    node: Any = _MISSING,
    /,
    *,
    splits: Any,
    only: Filter = ...,
    squeeze: bool = False,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Splits the RNG streams inside a model, in place, for a vmap or scan over it.

    >>> import fx_nnx as nnx
    >>> rngs = nnx.Rngs(0)
    >>> with split_rngs(rngs, splits=3):
    ...     rngs.default.key.shape
    (3,)
    >>> rngs.default.key.shape
    ()

    Args:
      node: a model or `Rngs`; without it, a decorator is returned that splits the arguments for the call.
      splits: into how many: a size or a shape.
      only: which streams, by name, path or type; it has to match both of their variables.
      squeeze: give the one key of ``splits=1`` without an axis.
      graph: as in `fx_nnx.split`; False gives a copy, too.
      graph_updates: False to leave the model as it is and return a copy, which shares all other variables.

    Returns:
      `SplitBackups`, for `restore_rngs` or ``with``; a copy, or a decorator.

    Raises:
      NnxError: ``squeeze`` with more than one split.
      NnxError: a stream is split already.
    """
    if squeeze and splits != 1:
        raise NnxError("squeeze needs splits=1.", expected=1, got=splits, fix="leave squeeze away")
    matches = _of_variables(only)

    def change(path: Path, stream: RngStream) -> Any:
        if not matches(path, stream):
            return None
        keys = jax.random.split(stream._next_unseen(), splits)
        return _fresh(keys[0] if squeeze else keys)

    return _change(node, change, graph, in_place=_in_place(graph, graph_updates))


def fork_rngs(
    node: Any = _MISSING,
    /,
    *,
    split: Any = None,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Lets the RNG streams inside a model start anew with their next keys, in place, as `RngStream.fork` does.

    Args:
      node: a model or `Rngs`; without it, a decorator is returned.
      split: into how many to split: for all streams, or a mapping of filters, which leaves the streams alone that none
        matches.
      graph: as in `split_rngs`.
      graph_updates: as in `split_rngs`.

    Returns:
      As `split_rngs`.

    Raises:
      NnxError: a stream is split already.

    >>> import fx_nnx as nnx
    >>> rngs = nnx.Rngs(params=0, dropout=1)
    >>> backups = nnx.fork_rngs(rngs, split={"dropout": 4})
    >>> rngs.dropout.key.shape, rngs.params.key.shape
    ((4,), ())
    >>> nnx.restore_rngs(backups)
    >>> rngs.dropout.key.shape
    ()
    """
    rules = [(_of_variables(f), size) for f, size in (split.items() if isinstance(split, dict) else [(..., split)])]

    def change(path: Path, stream: RngStream) -> Any:
        for matches, size in rules:
            if matches(path, stream):
                key = stream()
                return _fresh(key if size is None else jax.random.split(key, size))
        return None

    return _change(node, change, graph, in_place=_in_place(graph, graph_updates))


def with_rngs(
    node: Any = _MISSING,
    /,
    *,
    split: Any = None,
    fork: Filter = None,
    broadcast: Any = None,
    only: Filter = True,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Returns a model with other RNG streams: split, made equal, or started anew; it shares all other variables.

    >>> import fx_nnx as nnx
    >>> rngs = nnx.Rngs(0, dropout=1)
    >>> new = with_rngs(rngs, split={"dropout": 4}, fork="default")
    >>> new.dropout.key.shape, new.default.key.shape, rngs.dropout.key.shape
    ((4,), (), ())

    Args:
      node: a model or `Rngs`; without it, a decorator is returned that does this to the arguments of each call.
      split: into how many streams to split: a size or shape for all, or a mapping of filters to it.
      broadcast: how many times to repeat a stream, where ``split`` does not match: as ``split``.
      fork: which other streams start anew with their next key.
      only: which streams are changed at all.
      graph: as in `fx_nnx.split`.
      graph_updates: no effect, the model is never changed, but for the counts of the streams that keys were drawn
        from.

    Returns:
      The new model, or a decorator.

    Raises:
      NnxError: a stream is split already.
      NnxError: two of ``split``, ``broadcast`` and ``fork`` name the same stream; ``...`` means those left over.
    """
    chosen, forked = to_predicate(only), to_predicate(fork)
    splits, broadcasts = rules_of(split), rules_of(broadcast)
    named = [("split", _named(split)), ("broadcast", _named(broadcast)), ("fork", to_predicate(_or_none(fork)))]

    def change(path: Path, stream: RngStream) -> Any:
        if not chosen(path, stream):
            return None
        asked = [name for name, matches in named if matches(path, stream)]
        if len(asked) > 1:
            what = f"with_rngs has more than one thing to do with the stream at {show_path(path)}."
            raise NnxError(what, expected="one of split, broadcast and fork", got=" and ".join(asked))
        for rules, make in ((splits, RngStream.split), (broadcasts, RngStream.broadcast)):
            for matches, size in rules:
                if matches(path, stream):
                    return _fresh(make(stream, size).key.get_raw_value())
        return _fresh(stream()) if forked(path, stream) else None

    return _change(node, change, graph, in_place=False)


def _named(sizes: Any) -> Predicate:
    """Give what streams a mapping names by something else than "all the rest"."""
    return to_predicate(filters.Any(*map(_or_none, sizes)) if isinstance(sizes, Mapping) else None)


def _or_none(filter: Filter) -> Filter:
    return None if filter is ... or filter is True else filter


def restore_rngs(backups: Iterable[Any], /) -> None:
    """Undoes `split_rngs` or `fork_rngs`; the draw that they made counts.

    Args:
      backups: what those returned.

    >>> import fx_nnx as nnx
    >>> rngs = nnx.Rngs(dropout=1)
    >>> backups = nnx.split_rngs(rngs, splits=4)
    >>> nnx.restore_rngs(backups)
    >>> rngs.dropout.key.shape
    ()
    """
    for stream, key, count in backups:
        stream.key.set_raw_value(key)
        stream.count.set_raw_value(count)


def _fresh(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    return key, jnp.zeros(key.shape, jnp.uint32)


def _of_variables(only: Filter) -> Callable[[Path, RngStream], bool]:
    matches = to_predicate(only)
    if isinstance(only, type) and issubclass(only, RngStream):
        return matches

    def both(path: Path, stream: RngStream) -> bool:
        return matches((*path, "key"), stream.key) and matches((*path, "count"), stream.count)

    return both


def _in_place(graph: bool | None, graph_updates: bool | None) -> bool:
    return set_graph_mode.resolve(graph) and set_graph_updates.resolve(graph_updates)


def _change(node: Any, change: Change, graph: bool | None, *, in_place: bool) -> Any:
    if node is _MISSING:
        return _decorator(change, graph, in_place)
    if in_place:
        return SplitBackups(_changed_in_place(node, change))
    return _changed_copy(node, change, graph)


def _streams(node: Any) -> Iterator[tuple[Path, RngStream]]:
    return ((path, stream) for path, stream in list(iter_graph(node, graph=True)) if isinstance(stream, RngStream))


def _changed_in_place(node: Any, change: Change) -> Iterator[tuple[RngStream, Any, Any]]:
    # All keys first, so that an error leaves no stream half done.
    for stream, made in [(stream, change(path, stream)) for path, stream in _streams(node)]:
        if made is not None:
            yield stream, stream.key.get_raw_value(), stream.count.get_raw_value()
            stream.key.set_raw_value(made[0])
            stream.count.set_raw_value(made[1])


def _changed_copy(node: Any, change: Change, graph: bool | None) -> Any:
    copy = clone(node, variables=False, graph=graph)
    for path, stream in _streams(copy):
        made = change(path, stream)  # draws from the variables that the copy shares with the model
        if made is not None:
            stream.key, stream.count = stream.key.replace(made[0]), stream.count.replace(made[1])
    return copy


def _decorator(change: Change, graph: bool | None, in_place: bool) -> Callable[[Any], Any]:
    def decorate(f: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(f)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if in_place:
                with SplitBackups(_changed_in_place((args, kwargs), change)):
                    return f(*args, **kwargs)
            args, kwargs = _changed_copy((args, kwargs), change, graph)
            return f(*args, **kwargs)

        return wrapped

    return decorate
