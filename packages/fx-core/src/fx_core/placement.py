"""Laying out arrays on a mesh by partition specs, with checks that say which rule cannot be met."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fx_core.errors.partitioning import (
    IndivisibleAxisError,
    MeshAxisNotFoundError,
    MeshAxisReusedError,
    TooManyAxisNamesError,
)

__all__ = ["active_mesh", "check_spec", "place"]

AnyMesh = jax.sharding.Mesh | jax.sharding.AbstractMesh


def active_mesh() -> jax.sharding.AbstractMesh | None:
    """The mesh that `jax.set_mesh` made current, or None."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty else mesh


def check_spec(shape: Sequence[int], spec: Sequence[Any], mesh: AnyMesh, names: Iterable[Any] | None = None) -> None:
    """Check that an array can be laid out as a partition spec wants.

    Args:
      shape: shape of the array.
      spec: per dimension a mesh axis, a tuple of them or None.
      mesh: the mesh.
      names: the logical names that ``spec`` was made from, for the errors; ``spec`` itself by default.

    Raises:
      TooManyAxisNamesError: the spec is longer than the shape.
      MeshAxisNotFoundError: the mesh lacks an axis.
      MeshAxisReusedError: an axis is used for two dimensions.
      IndivisibleAxisError: a dimension is no multiple of its mesh axes.
    """
    names = tuple(spec if names is None else names)
    if len(spec) > len(shape):
        raise TooManyAxisNamesError(names, shape)
    sizes, taken = mesh.shape, {}
    for dimension, (entry, name) in enumerate(zip(spec, names)):
        axes = _axes(entry)
        for axis in axes:
            if axis not in sizes:
                raise MeshAxisNotFoundError(name, shape, axis, sizes)
            if axis in taken:
                raise MeshAxisReusedError(name, taken[axis], shape, axis, sizes[axis])
            taken[axis] = name
        pieces = math.prod(sizes[axis] for axis in axes)
        if shape[dimension] % pieces:
            raise IndivisibleAxisError(name, shape, dimension, entry, pieces)


def place(value: Any, spec: Iterable[Any], mesh: AnyMesh | None, names: Iterable[Any] | None = None) -> Any:
    """Lay out the arrays of a tree as a partition spec says.

    Mesh axes of type Auto are a constraint for the compiler, Explicit ones reshard, and Manual ones (inside of
    `jax.shard_map`) are left alone, since the arrays there are pieces already. Leaves that are not arrays stay.

    Args:
      value: arrays or tracers, as a tree.
      spec: per dimension a mesh axis, a tuple of them or None.
      mesh: the mesh; None for the current one.
      names: the logical names that ``spec`` was made from, for the errors.

    Returns:
      The same values, laid out. The value itself when there is no mesh.

    Raises:
      ShardingRuleError: one of its subclasses, when the spec does not fit.
    """
    where = active_mesh() if mesh is None else mesh
    if where is None:
        return value
    entries = tuple(spec)
    labels = entries if names is None else tuple(names)

    def leaf(x: Any) -> Any:
        if not isinstance(x, jax.Array | np.ndarray):
            return x
        check_spec(x.shape, entries, where, labels)
        return _place_array(x, entries, where, concrete=mesh is not None)

    return jax.tree.map(leaf, value)


def _place_array(x: Any, spec: Sequence[Any], mesh: AnyMesh, concrete: bool) -> Any:
    kinds = dict(zip(mesh.axis_names, mesh.axis_types))

    def sharding(kind: AxisType) -> Any:
        part = PartitionSpec(*(_only(entry, kind, kinds) for entry in spec))
        return NamedSharding(mesh, part) if concrete else part

    present = set(kinds.values())
    if AxisType.Explicit in present:
        x = jax.sharding.reshard(x, sharding(AxisType.Explicit))
    if AxisType.Auto in present:
        x = jax.lax.with_sharding_constraint(x, sharding(AxisType.Auto))
    return x


def _only(entry: Any, kind: AxisType, kinds: dict[str, AxisType]) -> Any:
    kept = tuple(axis for axis in _axes(entry) if kinds[axis] is kind)
    return kept if len(kept) > 1 else kept[0] if kept else None


def _axes(entry: Any) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)
