"""New seeds for the RNG streams inside a model."""

from typing import Any

import jax
import jax.numpy as jnp

from fx_nnx.errors import NnxError
from fx_nnx.graph.iterate import iter_graph
from fx_nnx.rngs.stream import RngStream

__all__ = ["reseed"]


def reseed(node: Any, /, *, graph: bool | None = None, policy: Any = "scalars_only", **stream_keys: Any) -> None:
    """Returns the RNG streams inside a model new keys, in place.

    Each stream gets its own key, drawn in the order of their paths from the seed for its name.

    >>> import fx_nnx as nnx
    >>> rngs = nnx.Rngs(0, dropout=1)
    >>> reseed(rngs, dropout=2)
    >>> bool(rngs.dropout.key[...] == jax.random.fold_in(jax.random.key(2), 0)), int(rngs.dropout.count[...])
    (True, 0)

    Args:
      node: a model or `Rngs`.
      graph: as in `fx_nnx.iter_graph`.
      policy: ``"scalars_only"`` refuses streams that are split, ``"match_shape"`` splits the new key to their shape, or
        a function ``(path, scalar_key, target_shape) -> key``.
      **stream_keys: seeds or keys by stream name; streams of other names stay.

    Raises:
      NnxError: a stream is split, under ``"scalars_only"``.
      TraceLevelError: a stream was made outside the transform that runs.
    """
    if not callable(policy) and policy not in ("match_shape", "scalars_only"):
        raise NnxError("Unknown policy.", expected="'scalars_only', 'match_shape' or a function", got=policy)
    sources = {name: _source(name, seed) for name, seed in stream_keys.items()}
    for path, stream in iter_graph(node, graph=graph):
        if isinstance(stream, RngStream) and stream.tag in sources:
            shape = stream.key.get_raw_value().shape
            key = _shaped(policy, path, sources[stream.tag](), shape)
            stream.key.set_raw_value(key)
            stream.count.set_raw_value(jnp.zeros(key.shape, jnp.uint32))


def _source(name: str, seed: Any) -> RngStream:
    return RngStream(seed.key if isinstance(seed, RngStream) else seed, tag=name)


def _shaped(policy: Any, path: Any, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if callable(policy):
        made: Any = policy(path, key, shape)
        return made
    if policy == "match_shape":
        return jax.random.split(key, shape) if shape else key
    if shape:
        where = "/" + "/".join(map(str, path))
        raise NnxError(
            f"The stream at {where} is split.", expected="a scalar key", got=shape, fix="policy='match_shape'"
        )
    return key
