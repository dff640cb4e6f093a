"""What `jax.distributed` knows about the processes that compute together."""

import ctypes
from typing import Any

from jax._src import distributed
from jax.experimental import multihost_utils

__all__ = ["abandon_processes", "coordination_client", "place_among_processes", "reached_preemption"]


def coordination_client() -> Any:
    """Returns the client of the service that ``jax.distributed.initialize`` starts, or None.

    It has barriers and texts by key, which work in any thread, unlike what goes over devices.
    """
    return distributed.global_state.client


def place_among_processes() -> tuple[int, int]:
    """Index and number of this process, as ``jax.distributed.initialize`` got them; devices are not touched."""
    return distributed.global_state.process_id, distributed.global_state.num_processes


def abandon_processes() -> None:
    """Lets this process end without waiting for the others, which it would do for minutes where they cannot come.

    JAX waits when the program ends, and so do the destructors: client and service are given up without running them.
    """
    state = distributed.global_state
    for part in (state.preemption_sync_manager, state.client, state.service):
        if part is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
    state.preemption_sync_manager = state.client = state.service = None


def reached_preemption(step: int) -> bool:
    """Returns whether one of the processes received a signal to end, and this is the step at which all are to save.

    False where JAX's service for this is off: then it is not known.
    """
    if distributed.global_state.preemption_sync_manager is None:
        return False
    return multihost_utils.reached_preemption_sync_point(step)
