"""Small things for programs that run one replica per device with `jax.pmap`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.errors import ArgumentError

from fx_train.errors import indivisible_batch
from fx_train.jax_utils import unreplicate

__all__ = ["get_metrics", "onehot", "shard", "shard_prng_key", "stack_forest"]


def shard(xs: Any) -> Any:
    """Splits the leading axis of every array between the local devices.

    >>> devices = jax.local_device_count()
    >>> shard({"image": np.zeros((2 * devices, 3))})["image"].shape == (devices, 2, 3)
    True

    Args:
      xs: a tree of arrays (batch, ...).

    Returns:
      The tree with arrays (devices, batch / devices, ...).

    Raises:
      BatchError: a batch is no multiple of the number of local devices.
    """
    devices = jax.local_device_count()

    def split(x: Any) -> Any:
        if np.ndim(x) == 0 or x.shape[0] % devices:
            raise indivisible_batch(np.shape(x), devices, "local devices")
        return x.reshape((devices, x.shape[0] // devices, *x.shape[1:]))

    return jax.tree.map(split, xs)


def shard_prng_key(prng_key: jax.Array) -> jax.Array:
    """Returns one key per local device, split from ``prng_key``; old raw keys and typed keys work.

    >>> shard_prng_key(jax.random.key(0)).shape == (jax.local_device_count(),)
    True
    """
    return jax.random.split(prng_key, jax.local_device_count())


def stack_forest(forest: Sequence[Any]) -> Any:
    """Stacks the leaves of trees of one structure along a new leading axis.

    >>> stack_forest([{"loss": 1.0}, {"loss": 3.0}])["loss"].tolist()
    [1.0, 3.0]

    Raises:
      ArgumentError: there is no tree, so that nothing says what the result looks like.
    """
    if not forest:
        raise ArgumentError("There is no tree to stack.", expected="at least one", got="an empty sequence")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *forest)


def get_metrics(device_metrics: Sequence[Any]) -> Any:
    """Fetches metrics that are the same on all devices, one tree per step, as one tree of stacked values.

    Args:
      device_metrics: trees whose leaves have a leading axis of devices, as `jax.pmap` returns them.

    Returns:
      A tree whose leaves have a leading axis of steps.
    """
    return stack_forest(jax.device_get([unreplicate(metrics) for metrics in device_metrics]))


def onehot(labels: jax.Array, num_classes: int, on_value: float = 1.0, off_value: float = 0.0) -> jax.Array:
    """Vectors with ``on_value`` at the label and ``off_value`` elsewhere; only that for labels out of range.

    >>> onehot(jnp.array([0, 2]), 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]

    Args:
      labels: integers of any shape.
      num_classes: length of the new last axis.
      on_value: value at the label.
      off_value: value elsewhere.

    Returns:
      float32 of shape (*labels.shape, num_classes).
    """
    hit = jnp.expand_dims(jnp.asarray(labels), -1) == jnp.arange(num_classes).reshape((1,) * np.ndim(labels) + (-1,))
    return jnp.where(hit, jnp.float32(on_value), jnp.float32(off_value))
