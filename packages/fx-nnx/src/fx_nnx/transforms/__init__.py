"""JAX transforms of functions of modules."""

from fx_nnx.transforms.checkify import checkify
from fx_nnx.transforms.cond import cond, switch
from fx_nnx.transforms.contexts import (
    MergeContext,
    SplitContext,
    UpdateContext,
    current_update_context,
    merge_context,
    split_context,
    update_context,
)
from fx_nnx.transforms.custom_vjp import custom_vjp
from fx_nnx.transforms.eval_shape import eval_shape, make_jaxpr
from fx_nnx.transforms.grad import grad, value_and_grad
from fx_nnx.transforms.inputs import merge_inputs, split_inputs
from fx_nnx.transforms.jit import cached_partial, jit, jit_partial
from fx_nnx.transforms.prefixes import Carry, DiffState, StateAxes, StateSharding, prefix
from fx_nnx.transforms.references import flatten, unflatten
from fx_nnx.transforms.remat import remat
from fx_nnx.transforms.scan import scan
from fx_nnx.transforms.shard_map import shard_map
from fx_nnx.transforms.stack_equal import stack_equal
from fx_nnx.transforms.transform_metadata import transform_metadata
from fx_nnx.transforms.trees import NodeStates, from_tree, to_tree
from fx_nnx.transforms.vjp import jvp, vjp
from fx_nnx.transforms.vmap import pmap, vmap
from fx_nnx.transforms.while_loop import fori_loop, while_loop

__all__ = [
    "Carry",
    "DiffState",
    "MergeContext",
    "NodeStates",
    "SplitContext",
    "StateAxes",
    "StateSharding",
    "UpdateContext",
    "cached_partial",
    "checkify",
    "cond",
    "current_update_context",
    "custom_vjp",
    "eval_shape",
    "flatten",
    "fori_loop",
    "from_tree",
    "grad",
    "jit",
    "jit_partial",
    "jvp",
    "make_jaxpr",
    "merge_context",
    "merge_inputs",
    "pmap",
    "prefix",
    "remat",
    "scan",
    "shard_map",
    "split_context",
    "split_inputs",
    "stack_equal",
    "switch",
    "to_tree",
    "transform_metadata",
    "unflatten",
    "update_context",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
