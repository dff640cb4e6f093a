"""The RNG streams of a model, by name."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from fx_core.errors import FxError, InvalidAttributeError, ItemNotFoundError

from fx_nnx.filters import Predicate, to_predicate
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.paths import Path
from fx_nnx.rngs.draws import RandomMethods
from fx_nnx.rngs.stream import RngStream

__all__ = ["Rngs", "rules_of", "size_for"]


class Rngs(RandomMethods, Pytree):
    """A set of RNG streams; a stream that was not given is served by the one called ``default``.

    >>> rngs = Rngs(0, dropout=1)
    >>> key = rngs.dropout()
    >>> int(rngs.dropout.count[...]), int(rngs.params.count[...])
    (1, 0)

    Args:
      default: seed or key of the default stream, or a mapping of names to seeds.
      **rngs: seeds, keys or streams by name.
    """

    def __init__(self, default: Any = None, **rngs: Any):
        if isinstance(default, Mapping) and not isinstance(default, Pytree):
            rngs = {**default, **rngs}
        elif default is not None:
            rngs["default"] = default
        for name, seed in rngs.items():
            key = seed.key if isinstance(seed, RngStream) else seed
            setattr(self, name, RngStream(key, tag=name))

    def __call__(self) -> jax.Array:
        """Returns the next key of the default stream."""
        return self.default()

    def __getitem__(self, name: str) -> RngStream:
        streams = attributes_of(self)
        stream = streams.get(name)
        if stream is None:
            stream = streams.get("default")
            if stream is None:
                raise _missing_rng(ItemNotFoundError, name, list(streams))
        return stream

    def __getattr__(self, name: str) -> RngStream:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]  # which subclasses may define
        except ItemNotFoundError:
            raise _missing_rng(InvalidAttributeError, name, list(self)) from None

    def __contains__(self, name: Any) -> bool:
        return name in attributes_of(self)

    def __iter__(self) -> Iterator[str]:
        return iter(attributes_of(self))

    def __len__(self) -> int:
        return len(attributes_of(self))

    def items(self) -> Iterator[tuple[str, RngStream]]:
        """Returns names and streams."""
        return iter(attributes_of(self).items())

    def fork(self, *, split: Any = None) -> "Rngs":
        """Returns streams that start with the next keys of these.

        Args:
          split: into how many (a size or shape) to split streams: for all of them, or a mapping of filters to it. With
            a mapping, streams that no filter matches are forked only.
        """
        return _collect({name: stream.fork(split=size) for name, stream, size in _sizes(self, split)})

    def split(self, k: Any) -> "Rngs":
        """Returns streams of as many independent streams as ``k`` says.

        Args:
          k: a size or shape for all streams, or a mapping of filters to it; with a mapping, streams that no filter
            matches are copied as they are.
        """
        return _collect(
            {n: _copied(stream) if size is None else stream.split(size) for n, stream, size in _sizes(self, k)}
        )

    def broadcast(self, k: Any) -> "Rngs":
        """Returns streams of ``k`` times the same stream, made of the next keys; ``k`` is as in `split`."""
        return _collect(
            {n: _copied(stream) if size is None else stream.broadcast(size) for n, stream, size in _sizes(self, k)}
        )


def _sizes(rngs: Rngs, sizes: Any) -> Iterator[tuple[str, RngStream, Any]]:
    rules = rules_of(sizes)
    for name, stream in rngs.items():
        yield name, stream, size_for(rules, (name,), stream)


def rules_of(sizes: Any) -> list[tuple[Predicate, Any]]:
    """Returns a size for all, or a mapping of filters to sizes, as pairs of predicate and size."""
    if isinstance(sizes, Mapping):
        return [(to_predicate(filter), size) for filter, size in sizes.items()]
    return [] if sizes is None else [(to_predicate(...), sizes)]


def size_for(rules: list[tuple[Predicate, Any]], path: Path, stream: RngStream) -> Any:
    """Returns the size of the first rule that matches a stream, or None."""
    return next((size for matches, size in rules if matches(path, stream)), None)


def _copied(stream: RngStream) -> RngStream:
    made = RngStream(stream.key.get_value(), tag=stream.tag)
    made.count.set_value(stream.count.get_value())
    return made


def _collect(streams: dict[str, RngStream]) -> Rngs:
    made = Rngs()
    for name, stream in streams.items():
        setattr(made, name, stream)
    return made


def _missing_rng(kind: type[FxError], name: str, known: Sequence[str]) -> FxError:
    return kind(
        f"There is no RNG stream {name!r}.",
        expected=f"one of {list(known)}" if known else "a stream",
        got=name,
        fix=f"Rngs(..., {name}=seed), or Rngs(seed), whose default stream serves every name",
    )
