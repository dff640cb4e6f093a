"""One lifting engine: JAX transforms that thread groups of state.

A `Carrier` takes some kind of state apart into groups of arrays and puts it together again, a `Slot` says where each
group goes, and every transform here is written once for all of them. `fx_transforms.lift` is the engine for scopes.
"""

from fx_core.traceback_util import hide_package

from fx_transforms import axes_scan, lift
from fx_transforms._version import __version__
from fx_transforms.axes import check_aliases
from fx_transforms.carrier import Carrier, Groups, Lifted, Outcome, Static
from fx_transforms.checkify import checkify
from fx_transforms.cond import cond, switch
from fx_transforms.custom_vjp import custom_vjp
from fx_transforms.eval_shape import eval_shape, make_jaxpr
from fx_transforms.grad import grad, value_and_grad
from fx_transforms.jit import jit
from fx_transforms.remat import remat
from fx_transforms.scan import scan
from fx_transforms.scope_carrier import ScopeCarrier
from fx_transforms.shard_map import shard_map
from fx_transforms.slot import ABSENT, CARRY, KEYS, SHARED, Place, Slot, axis
from fx_transforms.stack_equal import stack_equal
from fx_transforms.vjp import jvp, vjp
from fx_transforms.vmap import pmap, vmap
from fx_transforms.while_loop import fori_loop, while_loop

hide_package(__file__)

__all__ = [
    "ABSENT",
    "CARRY",
    "KEYS",
    "SHARED",
    "Carrier",
    "Groups",
    "Lifted",
    "Outcome",
    "Place",
    "ScopeCarrier",
    "Slot",
    "Static",
    "__version__",
    "axes_scan",
    "axis",
    "check_aliases",
    "checkify",
    "cond",
    "custom_vjp",
    "eval_shape",
    "fori_loop",
    "grad",
    "jit",
    "jvp",
    "lift",
    "make_jaxpr",
    "pmap",
    "remat",
    "scan",
    "shard_map",
    "stack_equal",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
