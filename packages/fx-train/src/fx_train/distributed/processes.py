"""What processes do together."""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fx_train.errors import DistributedStartError

__all__ = ["any_process", "barrier", "first_only", "is_first", "process_count"]

T = TypeVar("T")


def process_count() -> int:
    """Returns how many processes there are; 1 unless `fx_train.distributed.initialize` was called."""
    return jax.process_count()


def is_first() -> bool:
    """Returns whether this process writes what one has to write for all."""
    return jax.process_index() == 0


def first_only(function: Callable[[], T]) -> T | None:
    """Runs a function in the first process, while the others wait. All have to call this.

    Returns:
      What the function returned in the first process, None in the others.

    Raises:
      DistributedStartError: in the other processes, when the function failed in the first, where its error is raised.
    """
    result, failure = None, None
    if is_first():
        try:
            result = function()
        except Exception as error:
            failure = error
    # The others learn of a failure here; without that they would wait for the first process for ever.
    failed = any_process(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise DistributedStartError(
            "The first process failed at what it does for all.", fix="Look at the output of process 0."
        )
    return result


def any_process(flag: bool) -> bool:
    """Returns whether the flag is set in any process. All have to call this, at the same point of the program."""
    return _sum(int(flag)) > 0


def barrier(name: str = "barrier") -> None:
    """Waits until all processes are here, and the devices are done. All have to call this.

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
