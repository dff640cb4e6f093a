"""RNG streams: a key and a count of the keys made from it."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from fx_core import threefry
from fx_core.compat.jax import DynamicJaxprTracer, record_fold_in

from fx_nnx.errors import NnxError
from fx_nnx.objects.pytree import Pytree
from fx_nnx.rngs.draws import RandomMethods
from fx_nnx.variables.variable import Variable

__all__ = ["RngCount", "RngKey", "RngState", "RngStream", "as_key"]

_MISSING: Any = object()


class RngState(Variable[Any]):
    """What RNG streams are made of; as a filter, both keys and counts.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    >>> graphdef, rngs, rest = nnx.split(model, nnx.RngState, ...)
    >>> len(nnx.to_flat_state(rngs)), len(nnx.to_flat_state(rest))
    (2, 0)
    """

    __slots__ = ()


class RngKey(RngState):
    """The key of a stream.

    >>> import fx_nnx as nnx
    >>> type(nnx.Rngs(dropout=0).dropout.key).__name__
    'RngKey'
    """

    __slots__ = ()


class RngCount(RngState):
    """How many keys a stream has given.

    >>> import fx_nnx as nnx
    >>> rngs = nnx.Rngs(dropout=0)
    >>> key = rngs.dropout()
    >>> int(rngs.dropout.count.get_value())
    1

    Of a stream that is made while a function is traced, it is a number of NumPy there: a tracer would take an equation
    for each key, a fifth of the time that tracing the making of a network takes. Whoever reads it gets an array.
    """

    __slots__ = ()

    def get_value(self, *, index: Any = _MISSING) -> Any:
        """See `Variable.get_value`."""
        value = super().get_value() if index is _MISSING else super().get_value(index=index)
        return jnp.asarray(value) if type(self._raw_value) is np.uint32 else value

    def get_raw_value(self) -> Any:
        """See `Variable.get_raw_value`."""
        value = super().get_raw_value()
        return jnp.asarray(value) if type(value) is np.uint32 else value


def as_key(seed: Any) -> jax.Array:
    """Returns a typed key of an integer, a raw key, or a typed key.

    Raises:
      ValueError: it is none of these.
    """
    if isinstance(seed, Variable):
        seed = seed.get_value()
    if isinstance(seed, np.ndarray):
        seed = jnp.asarray(seed)
    if isinstance(seed, jax.Array):
        if jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
            return seed
        if seed.dtype == np.uint32 and seed.ndim > 0:
            return jax.random.wrap_key_data(seed)
        if jnp.issubdtype(seed.dtype, jnp.integer) and seed.ndim == 0:
            return jax.random.key(seed)
    elif isinstance(seed, int | np.integer):
        return jax.random.key(seed)
    raise ValueError(f"Invalid seed: expected an integer or a key of jax.random, got {seed!r}")


class RngStream(RandomMethods, Pytree):
    """A source of keys: each call folds a running count into one key.

    >>> stream = RngStream(0, tag="dropout")
    >>> bool((stream() == jax.random.fold_in(jax.random.key(0), 0)).all()), int(stream.count[...])
    (True, 1)

    Args:
      key: a seed or key.
      tag: name of the stream; filters find its variables by it.
    """

    def __init__(self, key: Any, *, tag: str):
        self.tag = tag
        key = as_key(key)
        self.key = RngKey(key, tag=tag)
        known = isinstance(key, DynamicJaxprTracer) and not key.ndim
        self.count = RngCount(np.uint32(0) if known else jnp.zeros(key.shape, jnp.uint32), tag=tag)

    def __call__(self) -> jax.Array:
        """Returns the next key.

        Raises:
          NnxError: the stream is split.
          TraceLevelError: the stream was made outside the transform that runs.
        """
        return self._next(self.key.get_value())

    def _next_unseen(self) -> jax.Array:
        """Give the next key as a call does, but past the hooks: it only becomes the key of another stream."""
        key = self.key.get_raw_value()
        return self._next(key[...] if self.key.ref else key)

    def _next(self, key: jax.Array) -> jax.Array:
        count, here = self._counted(key)
        # JAX would compile a program, which takes longer than small networks take to draw.
        return threefry.fold_in(key, int(count)) if here else record_fold_in(key, count)

    def _pass_key(self) -> None:
        """Count a key as given without deriving it: the keys after it stay the same.

        Raises:
          NnxError: the stream is split.
          TraceLevelError: the stream was made outside the transform that runs.
        """
        self._counted(self.key.get_value())

    def _counted(self, key: jax.Array) -> tuple[Any, bool]:
        """Count a key, and give the count before it and whether all is on the host."""
        if key.ndim:
            raise NnxError(
                f"The RNG stream {self.tag!r} is split.",
                expected="a stream with one key",
                got=f"keys of shape {tuple(key.shape)}",
                fix="use it inside the vmap or scan that it was split for, or restore it with restore_rngs",
            )
        count: Any = Variable.get_value(self.count)  # past that of `RngCount`: a number stays one
        here = _on_host(key, count)
        if type(count) is np.uint32:
            after: Any = np.uint32(int(count) + 1 & 0xFFFFFFFF)
        elif here:
            after = jnp.asarray(np.asarray(count) + np.uint32(1))
        elif isinstance(count, jax.core.Tracer) and count.dtype == np.uint32:
            after = jax.lax.add(count, np.uint32(1))  # without the conversions of `+`, which take longer
        else:
            after = count + 1
        self.count.set_value(after)
        return count, here

    def split(self, k: Any) -> "RngStream":
        """Returns a stream of as many independent streams as ``k`` (a size or shape) says, made of the next key."""
        return RngStream(jax.random.split(self(), k), tag=self.tag)

    def fork(self, *, split: Any = None) -> "RngStream":
        """Returns a stream that starts with the next key, split as `split` does if asked."""
        return RngStream(self(), tag=self.tag) if split is None else self.split(split)

    def broadcast(self, k: Any) -> "RngStream":
        """Returns a stream of ``k`` (a size or shape) times the same stream, made of the next key."""
        shape = (k,) if isinstance(k, int) else tuple(k)
        return RngStream(jnp.broadcast_to(self(), shape), tag=self.tag)


def _on_host(key: Any, count: Any) -> bool:
    """Whether a key can be derived without JAX: both are here, on a CPU, and nothing is being traced."""
    return (
        threefry.settled()
        and threefry.readable(key)
        and threefry.on_default_cpu(count)
        and count.dtype == np.uint32
        and count.shape == ()
    )
