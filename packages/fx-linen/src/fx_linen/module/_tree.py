"""Modules inside the containers that hold them."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.frozen_dict import FrozenDict

from fx_linen.module._base import ModuleBase

__all__ = ["ATOMS", "map_modules"]

ATOMS: frozenset[type] = frozenset(
    {
        bool,
        bytes,
        complex,
        float,
        int,
        str,
        type(None),
        type(jnp.float32),
        type,
        np.dtype,
        np.ndarray,
        types.BuiltinFunctionType,
        types.FunctionType,
        types.MethodType,
    }
)
"""Exact types that certainly hold no module: most fields, passed over with one look-up."""

Visit = Callable[[str, Any], Any]


def map_modules(value: Any, visit: Visit, suffix: str = "", *, freeze: bool = False) -> Any:
    """Replace the modules in a value.

    Lists, tuples, named tuples, dicts and pytree dataclasses are entered.

    Args:
      value: a module, a container, or anything else.
      visit: called with each module and the suffix that its place gives its name, such as ``"_0_key"``.
      suffix: the suffix of ``value`` itself.
      freeze: turn lists into tuples and dicts into `FrozenDict`.

    Returns:
      The value with each module replaced by what ``visit`` returned.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if isinstance(value, ModuleBase):
        return visit(suffix, value)
    if isinstance(value, (list, tuple)):
        items = [map_modules(item, visit, f"{suffix}_{i}", freeze=freeze) for i, item in enumerate(value)]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return kind(*items)
        return items if isinstance(value, list) and not freeze else tuple(items)
    if isinstance(value, (dict, FrozenDict)):
        return _map_dict(value, visit, suffix, freeze)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not jax.tree_util.all_leaves([value]):
        return _map_dataclass(value, visit, suffix, freeze)
    return value


def _map_dict(value: Mapping[Any, Any], visit: Visit, suffix: str, freeze: bool) -> Any:
    items = {key: map_modules(item, visit, f"{suffix}_{key}", freeze=freeze) for key, item in value.items()}
    if freeze or isinstance(value, FrozenDict):
        return FrozenDict(items)
    return items


def _map_dataclass(value: Any, visit: Visit, suffix: str, freeze: bool) -> Any:
    changed = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        new = map_modules(old, visit, f"{suffix}_{field.name}", freeze=freeze)
        if new is not old and field.init:
            changed[field.name] = new
    return dataclasses.replace(value, **changed) if changed else value
