"""The random streams of a model, by name."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
from fx_core.errors.nnx import MissingRngError

from fx_nnx.filters import to_predicate
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.rngs.draws import RandomMethods
from fx_nnx.rngs.stream import RngStream

__all__ = ["Rngs"]


class Rngs(RandomMethods, Pytree):
    """A set of random streams; a stream that was not given is served by the one called ``default``.

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
        """Give the next key of the default stream."""
        return self["default"]()

    def __getitem__(self, name: str) -> RngStream:
        streams = attributes_of(self)
        stream = streams.get(name)
        if stream is None:
            stream = streams.get("default")
            if stream is None:
                raise MissingRngError(name, list(streams))
        return stream

    def __getattr__(self, name: str) -> RngStream:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __contains__(self, name: Any) -> bool:
        return name in attributes_of(self)

    def __iter__(self) -> Iterator[str]:
        return iter(attributes_of(self))

    def __len__(self) -> int:
        return len(attributes_of(self))

    def items(self) -> Iterator[tuple[str, RngStream]]:
        """Give names and streams."""
        return iter(attributes_of(self).items())

    def fork(self, *, split: Any = None) -> "Rngs":
        """Give streams that start with the next keys of these.

        Args:
          split: into how many (a size or shape) to split streams: for all of them, or a mapping of filters to it. With
            a mapping, streams that no filter matches are forked only.
        """
        return _forked(self, split)

    def split(self, k: Any) -> "Rngs":
        """Give streams of as many independent streams as ``k`` says: a size, a shape, or a mapping as in `fork`."""
        return _forked(self, k)

    def broadcast(self, k: Any) -> "Rngs":
        """Give streams of ``k`` times the same stream, made of the next keys; ``k`` may be a mapping of filters."""
        return _collect({name: stream.broadcast(size) for name, stream, size in _sizes(self, k) if size is not None})


def _forked(rngs: Rngs, split: Any) -> Rngs:
    return _collect({name: stream.fork(split=size) for name, stream, size in _sizes(rngs, split)})


def _sizes(rngs: Rngs, sizes: Any) -> Iterator[tuple[str, RngStream, Any]]:
    if not isinstance(sizes, Mapping):
        return ((name, stream, sizes) for name, stream in rngs.items())
    rules = [(to_predicate(filter), size) for filter, size in sizes.items()]
    found = []
    for name, stream in rngs.items():
        size = next((size for matches, size in rules if matches((name,), stream)), None)
        found.append((name, stream, size))
    return iter(found)


def _collect(streams: dict[str, RngStream]) -> Rngs:
    made = Rngs()
    for name, stream in streams.items():
        setattr(made, name, stream)
    return made
