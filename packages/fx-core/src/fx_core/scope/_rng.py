"""RNG streams: a key, and static data that is folded into it only when a key is needed."""

import dataclasses
import hashlib
from typing import Any, Self, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fx_core import config, threefry
from fx_core.compat.jax import record_fold_in
from fx_core.errors.scope import InvalidRngError

PRNGKey: TypeAlias = jax.Array
RNGSequences: TypeAlias = dict[str, PRNGKey]

_RAW_KEY_WORDS = (2, 4)  # threefry and rbg


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LazyRng:
    """A key with a suffix that is yet to be folded into it.

    Folding takes a JAX operation, so it waits until someone draws: a scope that draws nothing costs nothing. It is a
    pytree with the key as its only leaf.

    >>> stream = LazyRng.create(jax.random.key(0), "encoder")
    >>> LazyRng.create(stream, 1).suffix
    ('encoder', 1)

    Attributes:
      rng: a key.
      suffix: strings and integers.
    """

    rng: PRNGKey
    suffix: tuple[int | str, ...] = dataclasses.field(metadata={"static": True})

    def as_jax_rng(self) -> PRNGKey:
        """Returns the key with the suffix folded in; the key itself if there is no suffix.

        Raises:
          InvalidRngError: an item of the suffix is neither a string nor an integer of at least zero.
        """
        return fold_in_static(self.rng, self.suffix)

    @staticmethod
    def create(rng: "LazyRng | PRNGKey", *suffix: int | str) -> "LazyRng":
        """Starts a stream from a key, or appends to the suffix of another stream."""
        if isinstance(rng, LazyRng):
            return LazyRng(rng.rng, rng.suffix + suffix)
        return LazyRng(rng, suffix)

    def clear_suffix(self) -> "LazyRng":
        """Returns a stream with the bare key."""
        return LazyRng(self.rng, ())

    def replace(self, **updates: Any) -> Self:
        """Returns a copy with other attributes."""
        return dataclasses.replace(self, **updates)


def fold_in_static(rng: PRNGKey, data: tuple[int | str, ...]) -> PRNGKey:
    """Folds static data into a key: the first four bytes of the SHA-1 of its items, big-endian.

    Args:
      rng: a key.
      data: strings, taken as UTF-8, and integers, taken as their minimal big-endian bytes. There is nothing between
        items unless the flag ``fix_rng_separator`` puts a zero byte before each.

    Raises:
      InvalidRngError: an item is something else.
    """
    if not data:
        return rng
    separator = b"\0" if config.fix_rng_separator else b""
    digest = hashlib.sha1(b"".join([separator + _item_bytes(item) for item in data]), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:4], "big")
    if threefry.readable(rng) and threefry.settled():
        return threefry.fold_in(rng, number)
    return record_fold_in(rng, np.uint32(number))


def _item_bytes(item: int | str) -> bytes:
    if isinstance(item, str):
        return item.encode("utf-8")
    if isinstance(item, int) and item >= 0:
        return item.to_bytes((item.bit_length() + 7) // 8, "big")
    raise InvalidRngError(
        "This cannot be folded into a key.", expected="strings and integers of at least zero", got=repr(item)
    )


def is_key(x: Any) -> bool:
    """Returns whether ``x`` is one key (not an array of keys), typed or raw, or a `LazyRng`."""
    if isinstance(x, LazyRng):
        return True
    dtype, shape = getattr(x, "dtype", None), getattr(x, "shape", None)
    if dtype is None or shape is None:
        return False
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return shape == ()
    return dtype == np.uint32 and len(shape) == 1 and shape[0] in _RAW_KEY_WORDS


class RngCounters:
    """How many keys a scope and the scopes inside of it have drawn, by stream.

    A scope that is pushed again under its old name goes on counting where it was, so no key comes twice.
    """

    __slots__ = ("children", "drawn")

    def __init__(self) -> None:
        self.drawn: dict[str, int] = {}
        self.children: dict[str, RngCounters] = {}

    def next(self, stream: str) -> int:
        """Counts a draw; the first gives 1."""
        count = self.drawn.get(stream, 0) + 1
        self.drawn[stream] = count
        return count

    def child(self, name: str) -> "RngCounters":
        """Returns the counters of the inner scope ``name``."""
        found = self.children.get(name)
        if found is None:
            found = self.children[name] = RngCounters()
        return found
