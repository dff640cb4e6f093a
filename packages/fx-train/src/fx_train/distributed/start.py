"""Starting the runtime of several processes."""

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import jax

from fx_train.errors import DistributedStartError, IncompleteProcessError

__all__ = ["initialize"]

_COORDINATOR, _COUNT, _INDEX = "FX_COORDINATOR", "FX_PROCESS_COUNT", "FX_PROCESS_INDEX"


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
    *,
    start_timeout: int = 300,
    heartbeat_timeout: int = 100,
    **options: Any,
) -> None:
    """Join the processes of a program; call it before anything touches a device. One process alone needs nothing.

    What is not given is looked up, in this order:

    - ``FX_COORDINATOR``, ``FX_PROCESS_COUNT`` and ``FX_PROCESS_INDEX``, which `fx_train.distributed.launch` sets; for
      an indexed job of Kubernetes the index is in ``JOB_COMPLETION_INDEX``;
    - SLURM (``srun``) and Open MPI (``mpirun``), as JAX detects them;
    - otherwise this process is alone, and nothing is done.

    Args:
      coordinator: ``"host:port"`` of the first process.
      processes: how many there are.
      index: which one this is, from 0.
      start_timeout: seconds until a process that does not come is an error.
      heartbeat_timeout: seconds of silence after which a process counts as dead. The others are then ended by JAX's
        runtime, with a message: nothing can be caught. Start all anew; a run goes on from its last whole checkpoint.
      **options: for `jax.distributed.initialize`.

    Raises:
      IncompleteProcessError: some but not all of coordinator, number and index are known.
      DistributedStartError: the coordinator cannot be reached, or a device was used before. When the first process
        waits for others that do not come, JAX's runtime ends it after ``start_timeout``, with a message.
    """
    found = _found(coordinator, processes, index, os.environ)
    if found is None:
        if not _cluster(os.environ):
            return
        found = {}
    if found.get("process_id"):
        _reach(found, start_timeout)
    # The only one of JAX's collectives for CPUs that comes with it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **found,
            initialization_timeout=start_timeout,
            heartbeat_timeout_seconds=heartbeat_timeout,
            **options,
        )
    except RuntimeError as error:
        raise DistributedStartError(found, str(error)) from error


def _found(
    coordinator: str | None, processes: int | None, index: int | None, environment: Mapping[str, str]
) -> dict[str, Any] | None:
    own_index = environment.get(
        _INDEX, environment.get("JOB_COMPLETION_INDEX") if _COORDINATOR in environment else None
    )
    values = {
        "coordinator_address": coordinator or environment.get(_COORDINATOR),
        "num_processes": processes if processes is not None else _number(_COUNT, environment.get(_COUNT)),
        "process_id": index if index is not None else _number(_INDEX, own_index),
    }
    known = {name for name, value in values.items() if value is not None}
    if not known:
        return None
    if len(known) < 3:
        raise IncompleteProcessError(sorted(known), sorted(set(values) - known))
    return values


def _reach(found: Mapping[str, Any], timeout: float) -> None:
    """Wait until the coordinator answers. JAX would wait as well, but end the process without an error to catch."""
    address = found["coordinator_address"]
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise DistributedStartError(found, f"the coordinator {address!r}", expected="host:port")
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise DistributedStartError(found, f"the coordinator cannot be reached: {error}") from error
            time.sleep(0.1)


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise IncompleteProcessError([f"{name}={text!r}"], ["a natural number"])
    return int(text)


def _cluster(environment: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows started several processes."""
    sizes = (environment.get("SLURM_STEP_NUM_TASKS"), environment.get("OMPI_COMM_WORLD_SIZE"))
    return any(size is not None and size.isdecimal() and int(size) > 1 for size in sizes)
