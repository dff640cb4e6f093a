"""Several processes and devices: the same program on one core and on many hosts.

The engine is JAX's own (`jax.distributed`, `jax.jit` with shardings); this is what programs write around it.
"""

from fx_train.distributed.processes import any_process, barrier, is_first, process_count

__all__ = ["any_process", "barrier", "is_first", "process_count"]
