"""Starting the runtime of several processes."""

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from fx_train.distributed._ending import end_at_once_by_errors
from fx_train.errors import DistributedStartError

__all__ = ["initialize"]

logger = logging.getLogger("fx.train")

_COORDINATOR, _COUNT, _INDEX = "FX_COORDINATOR", "FX_PROCESS_COUNT", "FX_PROCESS_INDEX"


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
    *,
    start_timeout: int = 300,
    heartbeat_timeout: int = 100,
    end_timeout: int = 300,
    **options: Any,
) -> None:
    """Joins the processes of a program; call it before anything touches a device. One process alone needs nothing.

    What is not given is looked up, in this order:

    - ``FX_COORDINATOR``, ``FX_PROCESS_COUNT`` and ``FX_PROCESS_INDEX``, which `fx_train.distributed.launch` sets; for
      an indexed job of Kubernetes the index is in ``JOB_COMPLETION_INDEX``;
    - SLURM (``srun``) and Open MPI (``mpirun``), as JAX detects them; or what ``cluster_detection_method`` names, an
      option of `jax.distributed.initialize`;
    - otherwise this process is alone, and nothing is done. Nor is it where the processes were joined before.

    From then on, an error that ends a process ends it at once: its output says what to do, and it does not wait for the
    others, which learn of its end by the connections that break.

    Args:
      coordinator: ``"host:port"`` of the first process.
      processes: how many there are.
      index: which one this is, from 0.
      start_timeout: seconds until a process that does not come is an error.
      heartbeat_timeout: seconds of silence after which a process counts as dead. Those that do not know it by then from
        broken connections are ended by JAX's runtime, with a message: nothing can be caught. Start all anew; a run goes
        on from its last whole checkpoint.
      end_timeout: seconds that a process which is done waits for the others to be done.
      **options: for `jax.distributed.initialize`.

    Raises:
      DistributedStartError: some but not all of coordinator, number and index are known.
      DistributedStartError: the coordinator cannot be reached, index and number do not fit, or a device was used
        before. When the first process waits for others that do not come, JAX's runtime ends it after
        ``start_timeout``, with a message.
    """
    found = _found(coordinator, processes, index, os.environ)
    if jax.distributed.is_initialized():
        if coordinator is not None:
            raise _distributed_start(found or {}, "they are together already", expected="one call of initialize")
        return
    if found is None:
        if not _cluster(os.environ) and options.get("cluster_detection_method") in (None, "deactivate"):
            _warn_of_jobs(os.environ)
            return
        found = {}
    else:
        _check(found)
        if found["process_id"]:
            _reach(found, start_timeout)
    if jax.config.jax_cpu_collectives_implementation in (None, "none"):  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            **found,
            initialization_timeout=start_timeout,
            heartbeat_timeout_seconds=heartbeat_timeout,
            shutdown_timeout_seconds=end_timeout,
            **options,
        )
    except (RuntimeError, ValueError) as error:
        raise _distributed_start(found, str(error)) from error
    end_at_once_by_errors()


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
        raise _incomplete_process(sorted(known), sorted(set(values) - known))
    return values


def _check(found: Mapping[str, Any]) -> None:
    """Say what is wrong with the place of this process, before others wait for it."""
    host, _, port = found["coordinator_address"].rpartition(":")
    if not host or not port.isdecimal():
        raise _distributed_start(found, f"the coordinator {found['coordinator_address']!r}", expected="host:port")
    if not 0 <= found["process_id"] < found["num_processes"]:
        raise _distributed_start(
            found, f"index {found['process_id']} of {found['num_processes']}", expected="an index below the number"
        )


def _reach(found: Mapping[str, Any], timeout: float) -> None:
    """Wait until the coordinator answers. JAX would wait as well, but end the process without an error to catch."""
    host, _, port = found["coordinator_address"].rpartition(":")
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise _distributed_start(found, f"the coordinator cannot be reached: {error}") from error
            time.sleep(0.1)


def _warn_of_jobs(environment: Mapping[str, str]) -> None:
    """An indexed job may be a program on several pods, or many programs on a pod each; only its author knows."""
    if "JOB_COMPLETION_INDEX" in environment:
        logger.warning(
            "This pod of an indexed job works alone. Set %s and %s in the manifest to join its pods.",
            _COORDINATOR,
            _COUNT,
        )


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise _incomplete_process([f"{name}={text!r}"], ["a natural number"])
    return int(text)


def _cluster(environment: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows started several processes."""
    sizes = (environment.get("SLURM_STEP_NUM_TASKS"), environment.get("OMPI_COMM_WORLD_SIZE"))
    return any(size is not None and size.isdecimal() and int(size) > 1 for size in sizes)


def _incomplete_process(known: Sequence[str], missing: Sequence[str]) -> DistributedStartError:
    return DistributedStartError(
        "This process does not know its place among the others.",
        expected="coordinator, number of processes and index, or none of them",
        got=f"{', '.join(known)} without {', '.join(missing)}",
        fix="Set FX_COORDINATOR, FX_PROCESS_COUNT and FX_PROCESS_INDEX, or start with "
        "python -m fx_train.distributed.launch, srun or mpirun.",
    )


def _distributed_start(
    found: Mapping[str, Any],
    cause: str,
    expected: str = "every process to call initialize, with one coordinator and number, before it uses a device",
) -> DistributedStartError:
    place = ", ".join(f"{name} {value}" for name, value in found.items()) or "found by JAX"
    return DistributedStartError(
        "The processes did not come together.",
        expected=expected,
        got=f"{cause.strip().splitlines()[0] if cause.strip() else 'no answer'} ({place})",
        fix="See whether one of them died at its start, whether the coordinator's port can be reached, and start "
        "all anew.",
    )
