"""JAX transforms of functions of scopes.

A function ``fn(scope, *args)`` becomes another such function: its variables and RNG streams take part in the
transform. The filters say how: which collections are mapped, shared or carried, which streams are split. ``scope`` may
be a tree of scopes.

>>> import jax, jax.numpy as jnp
>>> from fx_core import init
>>> from fx_transforms import lift
>>> def dense(scope, x):
...     return x @ scope.param("w", jax.nn.initializers.ones, (x.shape[-1], 2))
>>> ensemble = lift.vmap(dense, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=5)
>>> y, variables = init(ensemble)(jax.random.key(0), jnp.ones(3))
>>> y.shape, variables["params"]["w"].shape
((5, 2), (5, 3, 2))
"""

from fx_transforms.lift.collections import map_variables, swap_collection
from fx_transforms.lift.cond import cond, switch
from fx_transforms.lift.custom_vjp import custom_vjp
from fx_transforms.lift.filters import In, Out
from fx_transforms.lift.grad import value_and_grad
from fx_transforms.lift.jit import fold_rngs, jit
from fx_transforms.lift.pack import pack
from fx_transforms.lift.remat import checkpoint, remat
from fx_transforms.lift.scan import remat_scan, scan
from fx_transforms.lift.vjp import jvp, vjp
from fx_transforms.lift.vmap import vmap
from fx_transforms.lift.while_loop import while_loop

__all__ = [
    "In",
    "Out",
    "checkpoint",
    "cond",
    "custom_vjp",
    "fold_rngs",
    "jit",
    "jvp",
    "map_variables",
    "pack",
    "remat",
    "remat_scan",
    "scan",
    "swap_collection",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
