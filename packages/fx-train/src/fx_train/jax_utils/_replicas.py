"""Arrays with a leading axis of devices."""

import collections
import itertools
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fx_train.errors import indivisible_batch, invalid_buffer_size

_AXIS = "_device_put_sharded"


def replicate(tree: Any, devices: Sequence[Any] | None = None, axis_name: Hashable = _AXIS) -> Any:
    """Returns every device its copy of a tree, along a new leading axis, as `jax.pmap` wants it.

    >>> copies = replicate({"w": jnp.arange(3.0)})
    >>> copies["w"].shape == (jax.local_device_count(), 3)
    True

    Inside a traced function there are no devices to choose; the copies are made, and lie where `jax.jit` puts them.

    Args:
      tree: arrays and numbers.
      devices: where the copies go; the local devices by default.
      axis_name: name of the mesh axis of the result's sharding.

    Returns:
      A tree of arrays (devices, ...), of which each device holds one entry.
    """
    devices = list(jax.local_devices() if devices is None else devices)
    sharding = _sharding(devices, axis_name)

    def copy(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        if isinstance(x, jax.core.Tracer):
            return jnp.broadcast_to(x, (len(devices), *x.shape))
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            # Typed keys cannot be assembled from pieces; their words can.
            return jax.random.wrap_key_data(copy(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        # One copy per device, none of the whole: parameters may fill more than half of a device.
        pieces = [jax.device_put(x[None], device) for device in devices]
        return jax.make_array_from_single_device_arrays((len(devices), *x.shape), sharding, pieces)

    return jax.tree.map(copy, tree)


def unreplicate(tree: Any) -> Any:
    """Takes the first device's copy of a replicated tree; nothing is copied where it lies alone on its device.

    An array without a leading axis of devices, of which several devices have the whole (a sharding with an empty
    `PartitionSpec`), gives that whole; so does one without axes.
    """

    def first(x: Any) -> Any:
        if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) and x.is_fully_addressable:
            piece = x.addressable_shards[0]
            if x.ndim == 0 or (x.is_fully_replicated and len(x.devices()) > 1):
                return piece.data
            if piece.index and piece.index[0].indices(x.shape[0])[:2] == (0, 1):
                whole = piece.data.shape[1:] == x.shape[1:]
                return piece.data[0] if whole else x[0]
        return x[0]

    return jax.tree.map(first, tree)


def pmean(xs: Any, axis_name: Hashable) -> Any:
    """Returns the mean of every leaf over a mapped axis; `jax.lax.pmean`."""
    return jax.lax.pmean(xs, axis_name)


def prefetch_to_device(
    iterator: Iterator[Any],
    size: int,
    devices: Sequence[Any] | None = None,
    axis_name: Hashable = _AXIS,
) -> Iterator[Any]:
    """Copies batches to the devices before they are asked for, so that the copy runs beside the computation.

    >>> batches = prefetch_to_device(iter([np.zeros((8, 2))] * 3), size=2)
    >>> [batch.shape for batch in batches]
    [(8, 2), (8, 2), (8, 2)]

    Args:
      iterator: trees of arrays whose leading axis is split between the devices; usually (devices, ...).
      size: how many batches may lie on the devices; 2 is enough to hide the copy.
      devices: the local devices by default.
      axis_name: name of the mesh axis of the results' sharding.

    Yields:
      The same trees as `jax.Array`.

    Raises:
      ArgumentError: ``size`` is not positive.
      BatchError: a leading axis is no multiple of the number of devices.
    """
    if not isinstance(size, int) or size < 1:
        raise invalid_buffer_size("prefetch_to_device", size)
    devices = list(jax.local_devices() if devices is None else devices)
    return _prefetched(iterator, size, _sharding(devices, axis_name), len(devices))


def _prefetched(iterator: Iterator[Any], size: int, sharding: NamedSharding, count: int) -> Iterator[Any]:
    queue: collections.deque[Any] = collections.deque()
    for batch in itertools.chain(iterator, itertools.repeat(_END)):
        if batch is not _END:
            for leaf in jax.tree.leaves(batch):
                if np.ndim(leaf) == 0 or leaf.shape[0] % count:
                    raise indivisible_batch(np.shape(leaf), count, "devices")
            queue.append(jax.device_put(batch, sharding))
            if len(queue) < size:
                continue
        if not queue:
            return
        yield queue.popleft()


_END = object()


def _sharding(devices: Sequence[Any], axis_name: Hashable) -> NamedSharding:
    mesh = Mesh(np.array(devices), (axis_name,), axis_types=(jax.sharding.AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(axis_name))
