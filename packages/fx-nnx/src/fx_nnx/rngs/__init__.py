"""Random numbers for models."""

from fx_nnx.rngs.backups import fork_rngs, restore_rngs, split_rngs, with_rngs
from fx_nnx.rngs.reseeding import reseed
from fx_nnx.rngs.rngs import Rngs
from fx_nnx.rngs.stream import RngCount, RngKey, RngState, RngStream

__all__ = [
    "RngCount",
    "RngKey",
    "RngState",
    "RngStream",
    "Rngs",
    "fork_rngs",
    "reseed",
    "restore_rngs",
    "split_rngs",
    "with_rngs",
]
