"""Several processes and devices: the same program on one core and on many hosts.

The engine is JAX's own (`jax.distributed`, `jax.jit` with shardings); this is what programs write around it.
"""

from fx_train.distributed.layout import batch_part, create_sharded, global_batch, place, shardings
from fx_train.distributed.mesh import make_mesh
from fx_train.distributed.processes import any_process, barrier, first_only, is_first, process_count
from fx_train.distributed.start import initialize

__all__ = [
    "any_process",
    "barrier",
    "batch_part",
    "create_sharded",
    "first_only",
    "global_batch",
    "initialize",
    "is_first",
    "make_mesh",
    "place",
    "process_count",
    "shardings",
]
