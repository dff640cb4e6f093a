"""Modules under the names that programs written for Flax import them by.

``from flax.nnx import statelib`` becomes ``from fx_nnx import statelib``; so do ``import fx_nnx.statelib`` and
``fx_nnx.statelib.State``. Each name stands for modules of fx that have their own, better places; nothing is imported
before an attribute is asked for.

>>> from fx_nnx import statelib
>>> from fx_nnx.nn import linear
>>> statelib.State.__module__, linear.Linear.__module__
('fx_nnx.states.state', 'fx_nnx.layers.linear')
"""

import importlib
import sys
import types
from typing import Any

__all__ = ["TABLE", "install"]

_STATES = ("fx_nnx.states", "fx_nnx.states.mappings")
_GRAPH = (
    "fx_nnx.transforms",
    "fx_nnx.transforms.references",
    "fx_nnx.graph",
    "fx_nnx.graph.definition",
    "fx_nnx.states",
    "fx_nnx.variables",
    "fx_nnx.modules",
)
_SHARDING = ("fx_nnx.sharding", "fx_core.spmd")

TABLE: dict[str, tuple[str, ...]] = {
    "extract": ("fx_nnx.transforms", "fx_nnx.states"),
    "filterlib": ("fx_nnx.filters",),
    "graphlib": _GRAPH,
    "helpers": ("fx_nnx.modules", "fx_nnx.training"),
    "module": ("fx_nnx.modules.capture", "fx_nnx.modules", "fx_nnx.modules.module"),
    "nn": ("fx_nnx.layers",),
    "nn.activations": ("fx_core.ops.activations",),
    "nn.attention": ("fx_nnx.layers.attention", "fx_nnx.layers"),
    "nn.dtypes": ("fx_nnx.layers.params", "fx_core.ops.dtypes"),
    "nn.initializers": ("fx_core.ops.initializers",),
    "nn.linear": ("fx_nnx.layers.linear", "fx_nnx.layers.conv", "fx_nnx.layers.embed", "fx_nnx.layers"),
    "nn.lora": ("fx_nnx.layers.lora",),
    "nn.normalization": ("fx_nnx.layers.norm", "fx_nnx.layers"),
    "nn.recurrent": ("fx_nnx.layers.recurrent", "fx_nnx.layers"),
    "nn.stochastic": ("fx_nnx.layers.dropout",),
    "object": ("fx_nnx.objects", "fx_nnx.objects.pytree"),
    "optimizer": ("fx_nnx.training",),
    "pytreelib": ("fx_nnx.objects", "fx_nnx.objects.pytree"),
    "reprlib": ("fx_nnx.representation",),
    "rnglib": ("fx_nnx.rngs",),
    "spmd": _SHARDING,
    "statelib": _STATES,
    "tracers": ("fx_nnx.trace_state",),
    "traversals": ("fx_nnx.states.mappings",),
    "training.metrics": ("fx_nnx.metrics",),
    "variablelib": ("fx_nnx.variables", "fx_nnx.variables.defaults", "fx_nnx.rngs", "fx_nnx.training"),
}
"""For each name the modules that it stands for; the first that has an attribute gives it."""


class _Alias(types.ModuleType):
    """A module that finds its attributes in others."""

    def __init__(self, name: str, targets: tuple[str, ...]):
        super().__init__(name, f"Another name of {', '.join(targets)}, see `fx_nnx.aliases`.")
        self.__path__: list[str] = []
        self.__targets__ = targets

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            for target in self.__targets__:
                module = importlib.import_module(target)
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"{self.__name__} has no {name!r}; it stands for {', '.join(self.__targets__)}")

    def __dir__(self) -> list[str]:
        modules = [importlib.import_module(target) for target in self.__targets__]
        return sorted({name for module in modules for name in getattr(module, "__all__", dir(module))})


def install(package: str) -> dict[str, types.ModuleType]:
    """Put the names below a package; give those that are its attributes."""
    made: dict[str, types.ModuleType] = {}
    for name, targets in TABLE.items():
        full = f"{package}.{name}"
        alias = sys.modules.setdefault(full, _Alias(full, targets))
        parent, _, last = name.rpartition(".")
        if not parent:
            made[last] = alias
        elif parent in made:
            setattr(made[parent], last, alias)
        else:
            setattr(importlib.import_module(f"{package}.{parent}"), last, alias)
    return made
