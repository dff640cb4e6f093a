"""JAX transforms of modules, and of functions of modules.

A transform of a class is a class, one of a function is a function. Variables and RNG streams take part as the
arguments say. For functions of scopes see `fx_transforms.lift`.
"""

from fx_transforms.axes_scan import broadcast

from fx_linen.transforms.collections import add_metadata_axis, map_variables
from fx_linen.transforms.cond import cond, switch
from fx_linen.transforms.custom_vjp import custom_vjp
from fx_linen.transforms.grad import grad, value_and_grad
from fx_linen.transforms.jit import fold_rngs, jit
from fx_linen.transforms.named_call import named_call
from fx_linen.transforms.remat import checkpoint, remat
from fx_linen.transforms.scan import remat_scan, scan
from fx_linen.transforms.stack_equal import stack_equal
from fx_linen.transforms.vjp import jvp, vjp
from fx_linen.transforms.vmap import vmap
from fx_linen.transforms.while_loop import while_loop

__all__ = [
    "add_metadata_axis",
    "broadcast",
    "checkpoint",
    "cond",
    "custom_vjp",
    "fold_rngs",
    "grad",
    "jit",
    "jvp",
    "map_variables",
    "named_call",
    "remat",
    "remat_scan",
    "scan",
    "stack_equal",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
