"""Utilities around JAX: replicas on devices, padding of odd batches, scans over any axes, evaluation by shape."""

from fx_train.jax_utils._padding import pad_shard_unpad
from fx_train.jax_utils._partial import partial_eval_by_shape
from fx_train.jax_utils._replicas import pmean, prefetch_to_device, replicate, unreplicate
from fx_train.jax_utils._scan import scan_in_dim

__all__ = [
    "pad_shard_unpad",
    "partial_eval_by_shape",
    "pmean",
    "prefetch_to_device",
    "replicate",
    "scan_in_dim",
    "unreplicate",
]
