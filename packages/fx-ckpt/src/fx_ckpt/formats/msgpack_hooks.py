"""Functions for msgpack, with which programs pack and unpack the bytes of states themselves."""

from typing import Any

import jax
import msgpack
import numpy as np

from fx_ckpt.formats.msgpack import msgpack_restore, msgpack_serialize

__all__ = ["pack", "unpack"]

_KINDS = (1, 2, 3)
"""Arrays, complex numbers, scalars of NumPy."""


def pack(value: Any) -> Any:
    """Returns an array, a scalar of NumPy or a complex number as msgpack takes it; anything else as it is.

    Args:
      value: for ``default=`` of `msgpack.packb`. Arrays that are larger than a gigabyte are cut into pieces.
    """
    if isinstance(value, np.ndarray | jax.Array | np.generic | complex):
        return msgpack.unpackb(msgpack_serialize(value), strict_map_key=False)
    return value


def unpack(code: int, data: bytes) -> Any:
    """Returns what the bytes of an extension hold.

    Args:
      code: the kind of extension; one that Flax does not have stays a `msgpack.ExtType`.
      data: the bytes, for ``ext_hook=`` of `msgpack.unpackb`.

    >>> packed = pack(np.arange(3))
    >>> unpack(packed.code, packed.data)
    array([0, 1, 2])
    """
    extension = msgpack.ExtType(code, data)
    packed: Any = msgpack.packb(extension)
    return msgpack_restore(packed) if code in _KINDS else extension
