"""Number formats: how float values become codes and codes become numbers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.typing import Dtype

from fx_compress.errors import SchemeError

__all__ = ["FORMATS", "Format", "format_named", "pack", "unpack"]

# Quantiles of a normal distribution, rescaled to [-1, 1] with an exact zero: Dettmers et al., QLoRA, 2023, appendix E.
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@dataclasses.dataclass(frozen=True)
class Format:
    """A number format.

    Attributes:
      name: such as ``"int4"``.
      bits: per value.
      largest: the largest magnitude that codes stand for, before scaling.
      stored: dtype of the stored array; formats of four bits store two codes in each byte.
    """

    name: str
    bits: int
    largest: float
    stored: Any

    @property
    def integer(self) -> bool:
        """Whether codes are integers, which can have a zero point and be multiplied as integers."""
        return self.name.startswith("int")

    @property
    def packed(self) -> bool:
        """Whether two codes share a byte."""
        return self.bits == 4

    def encode(self, scaled: jax.Array) -> jax.Array:
        """Returns the codes nearest to values that are divided by their scale already; int8 or the stored dtype."""
        if self.integer:
            return jnp.clip(jnp.round(scaled), -self.largest, self.largest).astype(jnp.int8)
        if self.name == "nf4":
            middles = (np.asarray(_NF4[1:], np.float32) + np.asarray(_NF4[:-1], np.float32)) / 2
            return jnp.searchsorted(jnp.asarray(middles), scaled.astype(jnp.float32)).astype(jnp.int8)
        return jnp.clip(scaled, -self.largest, self.largest).astype(self.stored)

    def numbers(self, codes: jax.Array, dtype: Dtype) -> jax.Array:
        """Returns what codes (unpacked) stand for, before scaling."""
        return jnp.asarray(_NF4, dtype)[codes] if self.name == "nf4" else codes.astype(dtype)


FORMATS = {
    "int8": Format("int8", 8, 127, jnp.int8),
    "int4": Format("int4", 4, 7, jnp.uint8),
    "nf4": Format("nf4", 4, 1, jnp.uint8),
    "e4m3": Format("e4m3", 8, 448, jnp.float8_e4m3fn),
    "e5m2": Format("e5m2", 8, 57344, jnp.float8_e5m2),
}


def format_named(name: str) -> Format:
    """Returns a format by its name.

    Raises:
      SchemeError: there is none.
    """
    if name not in FORMATS:
        raise SchemeError("There is no such number format.", expected=", ".join(FORMATS), got=name)
    return FORMATS[name]


def pack(codes: jax.Array) -> jax.Array:
    """Puts two codes of four bits into each byte, along the last axis; a code of zero fills up an odd axis.

    >>> import jax.numpy as jnp
    >>> unpack(pack(jnp.array([-7, 3, 1], jnp.int8)), 3, signed=True).tolist()
    [-7, 3, 1]
    """
    if codes.shape[-1] % 2:
        codes = jnp.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, 1)])
    pairs = codes.astype(jnp.uint8).reshape(*codes.shape[:-1], codes.shape[-1] // 2, 2) & 15
    return pairs[..., 0] | (pairs[..., 1] << 4)


def unpack(stored: jax.Array, size: int, signed: bool) -> jax.Array:
    """Undoes `pack`: int8 codes with ``size`` entries in the last axis."""
    return _unpacker(size, signed)(stored)


@functools.cache
def _unpacker(size: int, signed: bool) -> Callable[[jax.Array], jax.Array]:
    def unpacked(stored: jax.Array) -> jax.Array:
        pairs = jnp.stack([stored & 15, stored >> 4], axis=-1)
        codes = pairs.reshape(*stored.shape[:-1], 2 * stored.shape[-1])[..., :size].astype(jnp.int8)
        return jnp.where(codes > 7, codes - 16, codes).astype(jnp.int8) if signed else codes

    # Exporters know it by its name.
    unpacked.__name__ = "fx_unpack_int4" if signed else "fx_unpack_uint4"
    return jax.jit(unpacked)
