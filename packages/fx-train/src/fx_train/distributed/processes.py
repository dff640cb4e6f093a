"""What processes do together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["any_process", "barrier", "is_first", "process_count"]


def process_count() -> int:
    """How many processes there are; 1 unless `fx_train.distributed.initialize` was called."""
    return jax.process_count()


def is_first() -> bool:
    """Whether this process writes what one has to write for all."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process. All have to call this, at the same point of the program."""
    return _sum(int(flag)) > 0


def barrier(name: str = "barrier") -> None:
    """Wait until all processes are here, and the devices are done. All have to call this.

    Args:
      name: for the profiler.
    """
    with jax.profiler.TraceAnnotation(name):
        _sum(0)


def _sum(number: int) -> int:
    if jax.process_count() == 1:
        return number
    mesh, total = _everyone()
    local = np.full(jax.local_device_count(), number, np.int32)
    spread = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("everyone")), local)
    return int(total(spread))


@functools.cache
def _everyone():
    mesh = Mesh(np.array(jax.devices()), ("everyone",), axis_types=(AxisType.Auto,))
    return mesh, jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
