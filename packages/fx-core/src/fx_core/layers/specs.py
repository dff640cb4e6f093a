"""What a layer is made of: its variables and RNG streams, described without making them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from fx_core.ops.initializers import zeros
from fx_core.ops.params import ParamSpec
from fx_core.typing import Dtype

__all__ = ["ParamSpec", "State", "Stream"]


@dataclasses.dataclass(frozen=True)
class State:
    """A variable that is no parameter.

    Attributes:
      collection: that it is in, such as ``"batch_stats"`` or ``"acme.usage"``. Its entry names the NNX variable type.
      shape: its shape.
      init: called as ``init(key, shape, dtype)``; the key is None unless a stream is named.
      dtype: its dtype.
      stream: the RNG stream to draw the first value from, such as ``"params"``; None where it is no draw.

    >>> State("batch_stats", (3,)).init(None, (3,), jnp.float32)
    Array([0., 0., 0.], dtype=float32)
    """

    collection: str
    shape: tuple[int, ...]
    init: Callable[..., Any] = zeros
    dtype: Dtype = jnp.float32
    stream: str | None = None


@dataclasses.dataclass(frozen=True)
class Stream:
    """An RNG stream that a layer uses when it is applied.

    Attributes:
      name: of the stream, such as ``"dropout"``.
    """

    name: str
