"""Drawing arrays of any shape with one compiled kernel.

Compiling takes most of the time in which a network gets its first parameters: a program per initializer and shape.
JAX's default keys (threefry, partitionable) make the random bits of an element a function of the key and of the
element's flat index alone. So here one kernel per distribution and dtype draws `CHUNK` elements from any index on,
and serves every shape. It calls the samplers of `jax.random` themselves, on a key that starts counting where the chunk
does; the scale is applied to the result on the host, in one multiplication with one rounding, as JAX's initializers do
it outside of their compiled sampler. The numbers are those of `jax.nn.initializers` to the bit on CPU. Other platforms,
whose compilers may round transcendental functions depending on what is around them, get JAX's own initializers.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

from fx_core.compat.jax import normal_scales_first
from fx_core.threefry import key_from_counter, readable, settled, words_of
from fx_core.typing import Dtype

__all__ = ["CHUNK", "Distribution", "chunkable", "draw", "plain_shape", "settled", "wanted_dtype"]

Distribution = Literal["truncated_normal", "normal", "uniform"]

CHUNK = 1 << 15
"""Elements drawn at a time: few enough that a small parameter wastes little, many enough that a large one is fast."""

_DTYPES = frozenset(np.dtype(name) for name in ("float16", "bfloat16", "float32"))
# For rows of this length XLA's CPU compiler of JAX 0.12 takes vectors of four and rounds up to three units in the last
# place otherwise than for all other shapes, the same elements as a flat array included. The normal distribution of that
# version differs in the last place for more shapes, none of them with rows of a multiple of eight.
_NARROW = (3, 4)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _chunk(words: Any, distribution: str, dtype: Dtype) -> jax.Array:
    key = key_from_counter(words[:4])
    lower, upper = jax.lax.bitcast_convert_type(words[4:], np.float32)
    if distribution == "truncated_normal":
        return jax.random.truncated_normal(key, lower, upper, (CHUNK,), dtype)
    if distribution == "uniform":
        return jax.random.uniform(key, (CHUNK,), dtype, lower, upper)
    if distribution == "normal":
        return jax.random.normal(key, (CHUNK,), dtype)
    above = np.nextafter(np.array(-1, dtype), np.array(0, dtype), dtype=dtype)
    return jax.lax.erf_inv(jax.random.uniform(key, (CHUNK,), dtype, above, np.array(1, dtype)))


def draw(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    distribution: Distribution,
    scale: Any,
    lower: float = -2.0,
    upper: float = 2.0,
) -> jax.Array:
    """Draws an array, chunk by chunk.

    Args:
      key: a key for which `chunkable` holds.
      shape: its shape, from `plain_shape`.
      dtype: its dtype, from `wanted_dtype`.
      distribution: what to sample.
      scale: a NumPy scalar of the dtype, multiplied to each element.
      lower: the lower bound before scaling, inclusive if uniform; without meaning for ``"normal"``.
      upper: the upper bound before scaling.
    """
    first, second = words_of(key)
    kernel: str = distribution
    if distribution == "normal" and normal_scales_first():
        kernel, scale = "normal before √2", np.asarray(np.sqrt(2), dtype)[()] * scale
    bounds = np.array([lower, upper], np.float32).view(np.uint32).tolist()
    size = math.prod(shape)
    starts = range(0, size, CHUNK)
    chunks: list[jax.Array] = [
        _chunk(np.array([first, second, start >> 32, start & 0xFFFFFFFF, *bounds], np.uint32), kernel, dtype)
        for start in starts
    ]
    out = np.empty(size, dtype)
    for start, chunk in zip(starts, chunks):
        part = out[start : start + CHUNK]
        np.multiply(np.asarray(chunk)[: part.size], scale, out=part)
    return jax.device_put(out.reshape(shape))


chunkable = readable
"""Whether `draw` gives what the samplers of `jax.random` give for the key, on the device that they would use."""


def wanted_dtype(dtype: Dtype) -> np.dtype[Any] | None:
    """Returns the dtype that an initializer's argument means, or None if there is no kernel for it."""
    found = np.dtype(jax.dtypes.result_type(float) if dtype is None or dtype is float else dtype)
    return found if found in _DTYPES else None


def plain_shape(shape: Sequence[Any], distribution: Distribution) -> tuple[int, ...] | None:
    """Returns the shape as integers, or None if it is empty, made of something else, or one that XLA computes
    differently.
    """
    sizes = tuple(shape)
    if len(sizes) > 1 and sizes[-1] in _NARROW:
        return None
    if distribution == "normal" and normal_scales_first() and sizes and sizes[-1] % 8:
        return None
    return sizes if all(type(size) is int and size > 0 for size in sizes) else None
