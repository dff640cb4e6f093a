"""Placing a new value on the mesh as its metadata says."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["place"]


def place(value: Any, metadata: Mapping[str, Any]) -> Any:
    """Give the value, laid out by its ``out_sharding`` if there is one and a mesh to lay it out on.

    Without a mesh the value stays where it is, so that a program runs unchanged on one device.
    """
    names = metadata.get("out_sharding")
    if names is None or not metadata.get("eager_sharding", True) or not isinstance(value, jax.Array):
        return value
    mesh = metadata.get("mesh") or jax.sharding.get_abstract_mesh()
    if mesh is None or mesh.empty:
        return value
    spec = names if isinstance(names, PartitionSpec) else PartitionSpec(*names)
    if isinstance(mesh, Mesh):
        target: Any = NamedSharding(mesh, spec)
        return value if value.is_fully_addressable and value.sharding == target else jax.device_put(value, target)
    if AxisType.Explicit in mesh.axis_types:
        return jax.sharding.reshard(value, spec)
    return jax.lax.with_sharding_constraint(value, spec)
