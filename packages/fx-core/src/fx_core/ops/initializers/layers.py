"""The initializers that layers use by default, and one that draws a tensor as if it were a matrix."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fx_core.ops.initializers.fixed import ones, zeros
from fx_core.ops.initializers.random import lecun_normal, orthogonal, variance_scaling
from fx_core.ops.params import Initializer
from fx_core.threefry import on_default_cpu, settled
from fx_core.typing import Dtype

__all__ = [
    "default_bias_init",
    "default_embed_init",
    "default_kernel_init",
    "default_recurrent_init",
    "default_scale_init",
    "flattened",
]

default_kernel_init: Initializer = lecun_normal()
default_recurrent_init: Initializer = orthogonal()
default_embed_init: Initializer = variance_scaling(1.0, "fan_in", "normal", out_axis=0)
default_bias_init: Initializer = zeros
default_scale_init: Initializer = ones


def flattened(init: Initializer, groups: Sequence[int]) -> Initializer:
    """Creates an initializer draw a tensor as if groups of its axes were single axes.

    A kernel with several input and output axes is to have the statistics of the matrix that it stands for: initializers
    that scale with fan-in would otherwise read the wrong axes.

    Args:
      init: the initializer to wrap; its result may be boxed in axis metadata, which stays.
      groups: how many consecutive axes make up each flat axis; zeros are allowed and give size 1.

    Returns:
      An initializer for the full shape.

    >>> import jax
    >>> init = flattened(orthogonal(), (2, 1))  # orthogonal as a 6 x 4 matrix
    >>> init(jax.random.key(0), (2, 3, 4), float).shape
    (2, 3, 4)
    """
    if init is zeros or init is ones:
        return init  # the same in any shape
    groups = tuple(groups)
    try:
        return _flattened(init, groups)
    except TypeError:  # an initializer without a hash
        return _flattened.__wrapped__(init, groups)


# Layers ask at every call, and what is known about an initializer (the shapes it makes) is known by its identity.
@functools.lru_cache(maxsize=256)
def _flattened(init: Initializer, groups: tuple[int, ...]) -> Initializer:
    def init_flat(key: Any, shape: Sequence[int], dtype: Dtype) -> Any:
        flat: list[int] = []
        start = 0
        for size in groups:
            flat.append(math.prod(shape[start : start + size]))
            start += size
        return jax.tree.map(lambda value: _reshaped(value, tuple(shape)), init(key, tuple(flat), dtype))

    return init_flat


def _reshaped(value: Any, shape: tuple[int, ...]) -> Any:
    if not settled() or not on_default_cpu(value):
        return value.reshape(shape)
    return jax.device_put(np.asarray(value).reshape(shape))  # spares a program per pair of shapes
