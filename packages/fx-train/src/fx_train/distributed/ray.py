"""Ray Train as what starts the processes; the extra ``fx-train[ray]`` installs it.

::

  from fx_train.distributed import ray as fx_ray

  def program(config):
      fx_ray.initialize()                 # instead of fx_train.distributed.initialize()
      mesh = make_mesh("data:-1")
      ...

  JaxTrainer(program, scaling_config=ScalingConfig(num_workers=2), run_config=...).fit()

Ray does not join its workers on CPUs: each would train alone and report success.
"""

import importlib
import socket
from typing import Any

import jax

from fx_train.distributed import start
from fx_train.errors import DistributedStartError, missing_extra

__all__ = ["initialize"]


def initialize(**options: Any) -> None:
    """Joins the workers of a Ray Train job; call it in the loop function, before anything touches a device.

    The first worker finds an address and a free port, and sends it to the others by Ray. Where Ray joined them itself,
    as it does on TPUs, nothing is done.

    Ray runs the loop in a thread beside the main one, where Python takes no signals: leave `fx_train.StopOnSignal` out.
    Ray starts a group with a dead worker anew (``FailureConfig(max_failures=...)``), and the run goes on from its last
    whole checkpoint, which has to be in a directory that all workers see.

    Args:
      **options: ``start_timeout`` and others of `fx_train.distributed.initialize`.

    Raises:
      MissingPackageError: there is no Ray.
      DistributedStartError: this is no worker of a Ray Train job.
      DistributedStartError: the workers did not come together.
    """
    try:
        train = importlib.import_module("ray.train")
        collective = importlib.import_module("ray.train.collective")
        util = importlib.import_module("ray.util")
    except ImportError as error:
        raise missing_extra("A job of Ray Train", "ray[train]", "ray") from error
    try:
        context = train.get_context()
        index, count = context.get_world_rank(), context.get_world_size()
    except Exception as error:
        # Which of Ray's errors it is depends on how far Ray was started.
        raise DistributedStartError(
            "This process is no worker of a Ray Train job.",
            expected="a call in the loop function of a trainer, such as ray.train.v2.jax.JaxTrainer",
            fix="Call it there, or fx_train.distributed.initialize for processes that something else starts.",
        ) from error
    if jax.distributed.is_initialized():
        return
    address = f"{util.get_node_ip_address()}:{_free_port()}" if index == 0 else None
    coordinator = collective.broadcast_from_rank_zero(address)
    start.initialize(coordinator, count, index, **options)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return listener.getsockname()[1]
