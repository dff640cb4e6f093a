"""Logical axis names of variables, kept in collections of their own next to the variables.

The names of ``params`` are in ``params_axes`` and so on. New programs do better with boxes, see
`fx_linen.with_logical_partitioning`: they need no second collection. Programs written for this way find it here.

>>> import jax, jax.numpy as jnp
>>> import fx_linen as nn
>>> class Layer(nn.Module):
...     @nn.compact
...     def __call__(self, x):
...         w = nn.partitioning.param_with_axes("w", nn.initializers.ones, (3, 4), axes=("embed", "mlp"))
...         return x @ w
>>> variables = Layer().init(jax.random.key(0), jnp.ones(3))
>>> nn.partitioning.get_axis_names(variables["params_axes"])["w"]
P('embed', 'mlp')
"""

from fx_core.spmd import get_logical_axis_rules as get_axis_rules
from fx_core.spmd import logical_axis_rules as axis_rules
from fx_core.spmd import set_logical_axis_rules as set_axis_rules

from fx_linen.partitioning._names import (
    AxisMetadata,
    NoRunningModuleError,
    PartitionedVariable,
    get_axis_names,
    param_with_axes,
    variable_with_axes,
)
from fx_linen.partitioning._transforms import core_remat_static, remat, scan_with_axes, vmap_with_axes
from fx_linen.spmd import RulesFallback, logical_to_mesh, logical_to_mesh_axes
from fx_linen.spmd import with_logical_constraint as with_sharding_constraint

__all__ = [
    "AxisMetadata",
    "NoRunningModuleError",
    "PartitionedVariable",
    "RulesFallback",
    "axis_rules",
    "core_remat_static",
    "get_axis_names",
    "get_axis_rules",
    "logical_to_mesh",
    "logical_to_mesh_axes",
    "param_with_axes",
    "remat",
    "scan_with_axes",
    "set_axis_rules",
    "variable_with_axes",
    "vmap_with_axes",
    "with_sharding_constraint",
]
