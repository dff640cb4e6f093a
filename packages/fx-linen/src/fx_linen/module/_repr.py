"""How modules are shown."""

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from fx_core import config
from fx_core.made import Made

from fx_linen.module._base import ModuleBase

__all__ = ["module_repr"]


def module_repr(module: ModuleBase, indent: str = "    ") -> str:
    """Shows a module as a nested table: its fields, then the submodules it made.

    Args:
      module: bound or not.
      indent: what nested lines begin with.
    """
    return _module_repr(module, indent, config.max_repr_depth)


def _module_repr(module: ModuleBase, indent: str, depth: int | None) -> str:
    """The same, where modules ``depth`` levels below this one are shown as three dots; None for no limit."""
    if depth is not None and depth < 0:
        return f"{type(module).__name__}(...)"
    below = None if depth is None else depth - 1

    def show(value: Any) -> str:
        return _show(value, lambda inner: _module_repr(inner, indent, below))

    attributes = module.__dict__
    parts = []
    kind = type(module)
    # A field that the constructor does not take leaves its default in the class.
    places = [(name, attributes if name in attributes else vars(kind)) for name in kind._info.shown]
    shown = {name: place[name] for name, place in places if name in place}
    if shown:
        parts.append("# attributes\n" + "\n".join(f"{key} = {show(value)}" for key, value in shown.items()))
    state = attributes.get("_state")
    children = {} if state is None else {k: v for k, v in state.children.items() if isinstance(v, ModuleBase)}
    if children:
        parts.append("# children\n" + "\n".join(f"{key} = {show(child)}" for key, child in children.items()))
    name = kind.__name__
    if not parts:
        return f"{name}()"
    body = "\n".join(parts).replace("\n", f"\n{indent}")
    return f"{name}(\n{indent}{body}\n)"


def _show(value: Any, of_module: Callable[[ModuleBase], str]) -> str:
    if isinstance(value, ModuleBase):
        return of_module(value)
    if isinstance(value, type) and issubclass(value, np.generic):
        return value.__name__
    if isinstance(value, types.FunctionType | type | Made):
        return value.__name__
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_show(item, of_module)}" for key, item in value.items()) + "}"
    if type(value) in (list, tuple):
        items = ", ".join(_show(item, of_module) for item in value)
        return f"[{items}]" if type(value) is list else f"({items}{',' if len(value) == 1 else ''})"
    if hasattr(value, "dtype") and hasattr(value, "__name__"):
        return value.__name__  # jnp.float32 and its like
    return repr(value)
