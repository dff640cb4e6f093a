"""JAX's default random bits, by themselves: keys derived on the host, and a kernel that compiles in half the time.

JAX derives each key by a compiled program, and compiles Threefry for CPU as a loop, which takes longer than anything
else in making a small network's parameters.
"""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from fx_core.compat.jax import key_that_draws, tracing

__all__ = ["fold_in", "key_from_counter", "on_default_cpu", "readable", "settled", "simply_traced", "words_of"]

_THREEFRY = "threefry2x32"
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _flag(name: str) -> bool:
    return getattr(jax.config, name)


def settled() -> bool:
    """Returns whether arrays are made here and now, on the default device, and not by a transform or over a mesh."""
    return not (tracing() or _flag("jax_disable_jit")) and jax.sharding.get_abstract_mesh().empty


def simply_traced() -> bool:
    """Returns whether a transform makes the arrays, and no mesh has a say in it."""
    return tracing() and jax.sharding.get_abstract_mesh().empty


def on_default_cpu(array: Any) -> bool:
    """Returns whether this is an array that was placed on the default device by default, and that is a CPU."""
    return (
        isinstance(array, jax.Array)
        and not isinstance(array, jax.core.Tracer)
        and not array.committed
        and not _flag("jax_default_device")
        and all(device.platform == "cpu" for device in array.devices())
    )


def readable(key: Any) -> bool:
    """Returns whether this is one ordinary key (threefry, partitionable), which the host can read, on the default
    device.
    """
    return (
        on_default_cpu(key)
        and key.shape == ((2,) if key.dtype == np.uint32 else ())
        and str(jax.random.key_impl(key)) == _THREEFRY
        and _flag("jax_threefry_partitionable")
        and not _flag("jax_debug_key_reuse")
    )


def words_of(key: jax.Array) -> tuple[int, int]:
    """Returns the two words of a `readable` key."""
    first, second = np.asarray(jax.random.key_data(key)).tolist()
    return first, second


def fold_in(key: jax.Array, data: int) -> jax.Array:
    """Returns what `jax.random.fold_in` gives, for a `readable` key where all is `settled`, on the host."""
    words = np.array(_threefry(*words_of(key), 0, data, 0xFFFFFFFF), np.uint32)
    if key.dtype == np.uint32:
        return jax.device_put(words)
    return jax.random.wrap_key_data(words, impl=_THREEFRY)  # pyright: ignore[reportArgumentType] (NumPy arrays are fine)


def key_from_counter(words: Any) -> jax.Array:
    """Returns a key that draws what a threefry key (partitionable) draws, but starting at a flat element.

    Args:
      words: the two words of the threefry key, then the high and the low word of the element's index. It draws flat
        arrays only, of 32 bits or fewer an element, over which the low word must not overflow.
    """
    return key_that_draws(words, _random_bits, "fx_threefry_from_counter")


def _random_bits(words: Any, count: int) -> jax.Array:
    low = words[3] + jnp.arange(count, dtype=np.uint32)
    first, second = _threefry(words[0], words[1], jnp.full_like(low, words[2]), low, np.uint32(0xFFFFFFFF))
    return first ^ second


def _threefry(key0: Any, key1: Any, x0: Any, x1: Any, all_bits: Any) -> tuple[Any, Any]:
    """Threefry-2x32 with 20 rounds (Salmon et al., *Parallel Random Numbers: As Easy as 1, 2, 3*, 2011).

    On Python's integers, or on arrays of uint32 with ``all_bits`` of that dtype.
    """
    keys = (key0, key1, key0 ^ key1 ^ 0x1BD11BDA)
    x0, x1 = (x0 + keys[0]) & all_bits, (x1 + keys[1]) & all_bits
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = (x0 + x1) & all_bits
            x1 = ((x1 << rotation | x1 >> 32 - rotation) & all_bits) ^ x0
        x0 = (x0 + keys[(group + 1) % 3]) & all_bits
        x1 = (x1 + keys[(group + 2) % 3] + (group + 1)) & all_bits
    return x0, x1
