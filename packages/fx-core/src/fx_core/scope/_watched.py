"""Scopes that notice when someone asks where they are, so that one trace can serve many places."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.core import Tracer

from fx_core._jax import current_trace, in_trace
from fx_core.scope._place import Place
from fx_core.scope._rng import LazyRng, PRNGKey
from fx_core.scope._scope import Scope

__all__ = ["Draw", "Watch", "WatchedScope"]


class Draw(NamedTuple):
    """A key that a `WatchedScope` gave.

    Attributes:
      root: number of the outermost scope.
      stream: the stream.
      suffix: what was folded into the key of that stream, below the outermost scope.
      key: the key, a value of the trace around.
    """

    root: int
    stream: str
    suffix: tuple[int | str, ...]
    key: PRNGKey


class Watch:
    """What happened in watched scopes.

    Made in the trace around the one of the scopes. Keys are drawn there: to the trace of the scopes they are values
    from outside, which others can take the place of.

    Attributes:
      looked: whether a path, a name or the keys of streams were read.
      draws: the keys that were drawn, in order.
    """

    __slots__ = ("_home", "draws", "looked")

    def __init__(self) -> None:
        self._home, self.looked, self.draws = current_trace(), False, list[Draw]()

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Reads within this block do not count: it looks at places for its own ends."""
        before = self.looked
        yield
        self.looked = before  # not after an error, whose text may tell the place

    def draw(self, root: int, stream: str, rng: LazyRng, suffix: tuple[int | str, ...]) -> PRNGKey:
        """Draw a key from the stream ``rng`` of an outermost scope."""
        with in_trace(self._home):
            key = LazyRng.create(rng, *suffix).as_jax_rng()
        self.draws.append(Draw(root, stream, suffix, key))
        # Functions that are compiled inside would keep a known key for themselves, where nothing can replace it.
        return key if isinstance(key, Tracer) else jnp.array(key, copy=True)


def _noticed(slot: Any) -> Any:
    def read(self: "WatchedScope") -> Any:
        self.watch.looked = True
        return slot.__get__(self)

    return property(read, slot.__set__)


_NAME: Any = Place.name  # the slots of the base


class WatchedScope(Scope):
    """A scope that does not know where it is without its `Watch` learning of it.

    What it gives is all the same what a plain scope would.
    """

    __slots__ = ("number", "watch")

    watch: Watch
    number: int

    path: tuple[str, ...] = _noticed(Place.path)
    debug_path: tuple[str, ...] = _noticed(Place.debug_path)

    def watched_by(self, watch: Watch, number: int) -> "WatchedScope":
        """Start watching the outermost scope of the given number."""
        self.watch, self.number = watch, number
        return self

    @property
    def name(self) -> str | None:
        """The name in the parent. Only that of the outermost scope tells where it is."""
        if self.parent is None:
            self.watch.looked = True
        return _NAME.__get__(self)

    @name.setter
    def name(self, name: str | None) -> None:
        _NAME.__set__(self, name)

    @property
    def rngs(self) -> dict[str, LazyRng]:
        """See `Scope.rngs`."""
        self.watch.looked = True
        return super().rngs

    def _derive(self, name: str | None, parent: Any) -> Any:
        with self.watch.unseen():
            return super()._derive(name, parent).watched_by(self.watch, self.number)

    def push(self, name: str | None = None, prefix: str = "", reuse: bool = False) -> Scope:
        """See `Scope.push`."""
        with self.watch.unseen():
            return super().push(name, prefix, reuse)

    def rewound(self, rewind_rngs: bool = False) -> Scope:
        """See `Scope.rewound`."""
        with self.watch.unseen():
            return super().rewound(rewind_rngs)

    def _new_key(self, stream: str, rng: LazyRng) -> PRNGKey:
        return self.watch.draw(self.number, stream, rng, (*self._suffix, self.counters.next(stream)))
