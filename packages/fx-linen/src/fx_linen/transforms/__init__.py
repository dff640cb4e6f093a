"""JAX transforms of modules, and of functions of modules.

A transform of a class is a class, one of a function is a function. Variables and random streams take part as the
arguments say. For functions of scopes see `fx_transforms.lift`.
"""

from fx_transforms.axes_scan import broadcast

from fx_linen.transforms.compilation import checkpoint, fold_rngs, jit, remat
from fx_linen.transforms.mapping import vmap
from fx_linen.transforms.repeat import remat_scan, scan, while_loop

__all__ = [
    "broadcast",
    "checkpoint",
    "fold_rngs",
    "jit",
    "remat",
    "remat_scan",
    "scan",
    "vmap",
    "while_loop",
]
