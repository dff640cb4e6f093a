"""RNG streams across the bridge."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.errors import ArgumentTypeError
from fx_nnx import RngKey, Rngs, RngStream, iter_graph

from fx_bridge.errors import BridgeError

__all__ = ["FALLBACK", "ScopeRngs", "forked", "is_absent", "keys_of", "lacks_fallback", "mark_absent", "rngs_of"]

FALLBACK = "params"
"""The stream that serves those that were not given, as in Linen."""


class ScopeRngs(Rngs):
    """Streams as a scope of Linen has them: ``params`` serves those that were not given, unless there is a default."""

    def __getitem__(self, name: str) -> RngStream:
        if name not in self and "default" not in self and FALLBACK in self:
            name = FALLBACK
        return super().__getitem__(name)

    def with_fallback(self) -> "ScopeRngs":
        """Returns the same streams, which go on together, and one for those that were not given."""
        made = ScopeRngs(**{FALLBACK: 0})
        for name, stream in self.items():
            setattr(made, name, stream)  # the stream itself: a copy would draw the keys of this one once more
        return made


def keys_of(rngs: Any) -> dict[str, Any]:
    """Draws a key from each stream, for Linen.

    The stream ``default`` is what Linen calls ``params``, unless there is one of that name.

    Args:
      rngs: an `Rngs`, a key, a dictionary of keys, or None.

    Raises:
      ArgumentTypeError: it is something else.
    """
    if rngs is None:
        return {}
    if isinstance(rngs, Rngs):
        # What an absent stream stands for is nothing to Linen, which asks for keys only where it needs them.
        keys = {name: stream() for name, stream in rngs.items() if not is_absent(stream)}
    elif isinstance(rngs, RngStream):
        return {FALLBACK: rngs()}
    elif isinstance(rngs, Mapping) and all(isinstance(name, str) for name in rngs):
        keys = dict(rngs)
    elif _is_key(rngs):
        return {FALLBACK: rngs}
    else:
        raise _bridge_rngs(rngs)
    if FALLBACK not in keys and "default" in keys:
        keys[FALLBACK] = keys.pop("default")
    return keys


def rngs_of(rngs: Any) -> ScopeRngs:
    """Returns streams for a bridge module: a key or a seed becomes the default stream.

    Raises:
      ArgumentTypeError: ``rngs`` is no `Rngs`, key, seed or dictionary of those.
    """
    if rngs is None:
        return ScopeRngs()
    if isinstance(rngs, int | np.integer) and not isinstance(rngs, bool):
        return ScopeRngs(rngs)
    if isinstance(rngs, Rngs):
        made = ScopeRngs()
        for name, stream in rngs.items():
            setattr(made, name, RngStream(stream.key.get_value(), tag=name))
            made[name].count.set_value(stream.count.get_value())
        return made
    if isinstance(rngs, Mapping) and all(isinstance(name, str) for name in rngs):
        return ScopeRngs(**rngs)
    if _is_key(rngs):
        return ScopeRngs(rngs)
    raise _bridge_rngs(rngs)


def forked(rngs: Any) -> Any:
    """Forks the streams for a wrapped module, as layers of NNX do.

    Raises:
      ArgumentTypeError: it is neither an `Rngs` nor a key.
    """
    if rngs is None:
        return None
    if _is_key(rngs):
        return Rngs(params=rngs)
    if isinstance(rngs, Rngs):
        return rngs.fork()
    if isinstance(rngs, RngStream):
        return Rngs(rngs.fork())
    raise _bridge_rngs(rngs)


def lacks_fallback(names: Collection[str]) -> bool:
    """Returns whether no stream of some names serves those that were not given."""
    return FALLBACK not in names and "default" not in names


def mark_absent(module: Any) -> None:
    """Lets the streams of a module that stand for the absent `FALLBACK` raise when they are used."""
    for _, found in iter_graph(module):
        if isinstance(found, RngKey) and found.get_metadata("tag", None) == FALLBACK:
            found.set_metadata(on_get_value=absent)


def is_absent(stream: RngStream) -> bool:
    """Returns whether a stream stands for one that was not given."""
    return stream.key.get_metadata("on_get_value", None) is absent


def absent(variable: Any, _: Any) -> Any:
    """The hook of a stream that was not given.

    Raises:
      BridgeError: always.
    """
    raise BridgeError(
        "An NNX module uses an RNG stream that was not given.",
        expected=f"a key for the stream, or for {variable.tag!r}, which serves streams that were not given",
        got="neither",
        fix="pass rngs={'dropout': key}, or what the stream is called, or set the layer to be deterministic",
    )


def _is_key(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    if dtype is None or isinstance(value, Rngs):
        return False
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return value.shape == ()
    return dtype == np.uint32 and value.ndim == 1


def _bridge_rngs(got: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        "These are no RNG streams.",
        expected="an fx_nnx.Rngs, a key, or a dictionary of keys by stream name",
        got=f"{type(got).__name__}: {got!r}",
        fix="pass rngs=nnx.Rngs(0, dropout=1) or rngs={'dropout': key}",
    )
