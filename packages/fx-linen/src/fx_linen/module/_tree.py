"""Modules inside the containers that hold them."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.frozen_dict import FrozenDict
from fx_core.made import Made

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
        Made,
    }
)
"""Exact types that certainly hold no module: most fields, passed over with one look-up."""

Visit = Callable[[str, Any], Any]


def map_modules(
    value: Any, visit: Visit, suffix: str = "", *, freeze: bool = False, kinds: type | tuple[type, ...] = ModuleBase
) -> Any:
    """Replaces the modules in a value.

    Lists, tuples, dicts, named tuples and pytree dataclasses are entered, in the order of their keys as text, which
    decides how a module is called that is there twice.

    Args:
      value: a module, a container, or anything else.
      visit: called with each module and the suffix that its place gives its name, such as ``"_0_key"``.
      suffix: the suffix of ``value`` itself.
      freeze: turn lists into tuples and dicts into `FrozenDict`, though not inside of other containers.
      kinds: what counts as a module.

    Returns:
      The value with each module replaced by what ``visit`` returned; itself where nothing is replaced.
    """
    if type(value) in ATOMS:
        return value
    if isinstance(value, kinds):
        return visit(suffix, value)
    if type(value) in (tuple, list) and all(type(item) in ATOMS for item in value):
        return tuple(value) if freeze else value  # most sequences: sizes and strides
    items = _items_of(value)
    if items is None:
        return value
    # Values of others come out as they went in.
    inside = freeze and (type(value) is tuple or isinstance(value, (list, dict, FrozenDict)))
    new = {
        key: map_modules(items[key], visit, f"{suffix}_{key}", freeze=inside, kinds=kinds)
        for key in sorted(items, key=str)
    }
    new = {key: new[key] for key in items}
    same = all(new[key] is item for key, item in items.items())
    return _rebuilt(value, new, same, freeze)


def _items_of(value: Any) -> Mapping[Any, Any] | None:
    """What is in a container that is entered, by key."""
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if isinstance(value, (dict, FrozenDict)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not jax.tree_util.all_leaves([value]):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _rebuilt(value: Any, items: dict[Any, Any], same: bool, freeze: bool) -> Any:
    """The container with other items."""
    if isinstance(value, list):
        return tuple(items.values()) if freeze else value if same else list(items.values())
    if isinstance(value, tuple):
        if same:
            return value
        return type(value)(*items.values()) if hasattr(value, "_fields") else tuple(items.values())
    if isinstance(value, (dict, FrozenDict)):
        if same and (isinstance(value, FrozenDict) or not freeze):
            return value
        return FrozenDict(items) if freeze or isinstance(value, FrozenDict) else items
    init = {field.name for field in dataclasses.fields(value) if field.init}
    changed = {name: item for name, item in items.items() if name in init and item is not getattr(value, name)}
    return dataclasses.replace(value, **changed) if changed else value
