"""Splitting and reseeding the random streams inside a model, and undoing it."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from fx_core.errors.nnx import RngSplitError

from fx_nnx.filters import Filter, to_predicate
from fx_nnx.graph.functions import clone
from fx_nnx.graph.iterate import iter_graph
from fx_nnx.rngs.stream import RngStream

__all__ = ["SplitBackups", "fork_rngs", "reseed", "restore_rngs", "split_rngs"]

_MISSING: Any = object()


class SplitBackups:
    """What streams were before a split; also a context manager that restores them at the end."""

    __slots__ = ("_backups",)

    def __init__(self, backups: list[tuple[RngStream, Any, Any]]):
        self._backups = backups

    def __iter__(self) -> Iterator[tuple[RngStream, Any, Any]]:
        return iter(self._backups)

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
    """Split the random streams inside a model, in place, for a vmap or scan over it.

    >>> from fx_nnx.rngs import Rngs
    >>> rngs = Rngs(0)
    >>> with split_rngs(rngs, splits=3):
    ...     rngs.default.key.shape
    (3,)
    >>> rngs.default.key.shape
    ()

    Args:
      node: a model or `Rngs`; without it, a decorator is returned that splits the arguments for the call.
      splits: into how many: a size or a shape.
      only: which streams, by name, path or type.
      squeeze: give the one key of ``splits=1`` without an axis.
      graph: accepted for compatibility.
      graph_updates: False to split a copy of the model, and return it.

    Returns:
      `SplitBackups`, for `restore_rngs` or ``with``; a copy, or a decorator.

    Raises:
      RngSplitError: ``squeeze`` with more than one split.
    """
    if squeeze and splits != 1:
        raise RngSplitError("squeeze needs splits=1.", expected=1, got=splits, fix="leave squeeze away")

    def change(stream: RngStream) -> tuple[Any, Any]:
        key = stream()
        new = key if squeeze else jax.random.split(key, splits)
        return new, jnp.zeros(new.shape, jnp.uint32)

    return _change(node, change, only, graph_updates)


def fork_rngs(
    node: Any = _MISSING,
    /,
    *,
    split: Any = None,
    graph: bool | None = None,
    graph_updates: bool | None = None,
) -> Any:
    """Let the random streams inside a model start anew with their next keys, in place, as `RngStream.fork` does.

    Args:
      node: a model or `Rngs`; without it, a decorator is returned.
      split: into how many to split: for all streams, or a mapping of filters.
      graph: accepted for compatibility.
      graph_updates: False to fork a copy of the model, and return it.
    """
    rules = (
        [(to_predicate(f), size) for f, size in split.items()]
        if isinstance(split, dict)
        else [(to_predicate(...), split)]
    )

    def change(stream: RngStream) -> tuple[Any, Any]:
        size = next((size for matches, size in rules if matches((stream.tag,), stream)), None)
        made = stream.fork(split=size)
        return made.key.get_raw_value(), made.count.get_raw_value()

    return _change(node, change, ..., graph_updates)


def restore_rngs(backups: Iterable[Any], /) -> None:
    """Undo `split_rngs` or `fork_rngs`; the draw that they made counts."""
    for stream, key, count in backups:
        stream.key.set_raw_value(key)
        stream.count.set_raw_value(count)


def reseed(node: Any, /, *, graph: bool | None = None, policy: Any = "scalars_only", **stream_keys: Any) -> None:
    """Give the random streams inside a model new keys, in place.

    Each stream gets its own key, drawn in the order of their paths from the seed for its name.

    Args:
      node: a model or `Rngs`.
      graph: accepted for compatibility.
      policy: ``"scalars_only"`` refuses streams that are split, ``"match_shape"`` splits the new key to their shape, or
        a function ``(path, scalar_key, target_shape) -> key``.
      **stream_keys: seeds or keys by stream name.

    Raises:
      RngSplitError: a stream is split, under ``"scalars_only"``.
    """
    sources = {name: RngStream(seed, tag=name) for name, seed in stream_keys.items()}
    for path, stream in iter_graph(node):
        if isinstance(stream, RngStream) and stream.tag in sources:
            shape = stream.key.get_raw_value().shape
            key = _reshaped(policy, path, sources[stream.tag](), shape)
            stream.key.set_raw_value(key)
            stream.count.set_raw_value(jnp.zeros(key.shape, jnp.uint32))


def _reshaped(policy: Any, path: Any, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if callable(policy):
        made: Any = policy(path, key, shape)
        return made
    if policy == "match_shape":
        return jax.random.split(key, shape) if shape else key
    if policy != "scalars_only":
        raise RngSplitError("Unknown policy.", expected="'scalars_only', 'match_shape' or a function", got=policy)
    if shape:
        raise RngSplitError("A stream is split.", expected="a scalar key", got=shape, fix="policy='match_shape'")
    return key


def _change(node: Any, change: Callable[[RngStream], Any], only: Filter, graph_updates: bool | None) -> Any:
    if node is _MISSING:
        return _decorator(change, only)
    if graph_updates is False:
        node = clone(node)
        _apply(node, change, only)
        return node
    return SplitBackups(_apply(node, change, only))


def _apply(node: Any, change: Callable[[RngStream], Any], only: Filter) -> list[tuple[RngStream, Any, Any]]:
    matches = to_predicate(only)
    backups = []
    for path, stream in iter_graph(node):
        if isinstance(stream, RngStream) and matches(path, stream):
            key, count = change(stream)
            backups.append((stream, stream.key.get_raw_value(), stream.count.get_raw_value()))
            stream.key.set_raw_value(key)
            stream.count.set_raw_value(count)
    return backups


def _decorator(change: Callable[[RngStream], Any], only: Filter) -> Callable[[Any], Any]:
    def decorate(f: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(f)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with SplitBackups(_apply((args, kwargs), change, only)):
                return f(*args, **kwargs)

        return wrapped

    return decorate
