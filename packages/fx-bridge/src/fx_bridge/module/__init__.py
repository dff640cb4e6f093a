"""Bridge modules: NNX modules that are written and run as those of Linen."""

from fx_bridge.module.compact import compact
from fx_bridge.module.module import Module
from fx_bridge.module.priority import AttrPriority
from fx_bridge.module.scope import Scope
from fx_bridge.module.submodules import linen_in_bridge_mdl, nnx_in_bridge_mdl

__all__ = ["AttrPriority", "Module", "Scope", "compact", "linen_in_bridge_mdl", "nnx_in_bridge_mdl"]
