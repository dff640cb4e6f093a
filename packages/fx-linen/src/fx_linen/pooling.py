"""Pooling, as functions: `fx_core.ops.pool`."""

from fx_core.ops.pool import (
    avg_pool,
    max_pool,
    min_pool,
    pool,
)

__all__ = [
    "avg_pool",
    "max_pool",
    "min_pool",
    "pool",
]
