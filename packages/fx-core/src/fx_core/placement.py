"""Laying out arrays on a mesh by partition specs, with checks that say which rule cannot be met."""

import functools
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.core
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fx_core.array_node import ArrayNode, is_array_node
from fx_core.errors.partitioning import ShardingRuleError

__all__ = ["active_mesh", "check_spec", "place", "placing_mesh", "spec_of"]

AnyMesh = jax.sharding.Mesh | jax.sharding.AbstractMesh


def active_mesh() -> jax.sharding.AbstractMesh | None:
    """Returns the mesh that `jax.set_mesh` made current, or None."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty else mesh


def placing_mesh() -> AnyMesh | None:
    """Returns the current mesh, with its devices where they are known: outside of `jax.jit`. None if there is none."""
    mesh = _mesh_outside_of_jit()
    return active_mesh() if mesh is None or mesh.empty else mesh


def check_spec(
    shape: Sequence[int],
    spec: Sequence[Any],
    mesh: AnyMesh,
    names: Iterable[Any] | None = None,
    *,
    traced: bool = False,
) -> None:
    """Checks that an array can be laid out as a partition spec wants.

    Args:
      shape: shape of the array.
      spec: per dimension a mesh axis, a tuple of them or None.
      mesh: the mesh.
      names: the logical names that ``spec`` was made from, for the errors; ``spec`` itself by default.
      traced: the array belongs to a program that the compiler lays out: over mesh axes of type Auto it need not be
        divided evenly; a warning says so, since most such arrays end up whole on every device.

    Raises:
      ShardingRuleError: the spec is longer than the shape.
      ShardingRuleError: the mesh lacks an axis.
      ShardingRuleError: an axis is used for two dimensions.
      ShardingRuleError: a dimension is no multiple of its mesh axes.
    """
    names = tuple(spec if names is None else names)
    if len(spec) > len(shape):
        raise ShardingRuleError(
            f"An array of shape {tuple(shape)} has {len(names)} axis names.",
            name=tuple(names),
            shape=shape,
            expected=f"at most {len(shape)} names",
            got=tuple(names),
            fix="Give one name, or None, per dimension.",
        )
    sizes, taken = mesh.shape, {}
    kinds = dict(zip(mesh.axis_names, mesh.axis_types))
    for dimension, (entry, name) in enumerate(zip(spec, names)):
        axes = _axes(entry)
        for axis in axes:
            if axis not in sizes:
                raise ShardingRuleError(
                    f"Logical axis {name!r} of an array of shape {tuple(shape)} is mapped to {axis!r}, "
                    "which is not an axis of the mesh.",
                    name=name,
                    shape=shape,
                    expected=f"one of the mesh axes {dict(sizes)}",
                    got=repr(axis),
                    fix=f"Add a rule for {name!r} that names a mesh axis or None, or make a mesh with {axis!r}.",
                )
            if axis in taken:
                raise ShardingRuleError(
                    f"Logical axes {taken[axis]!r} and {name!r} of an array of shape {tuple(shape)} are both mapped to "
                    f"mesh axis {axis!r} of size {sizes[axis]}.",
                    name=name,
                    shape=shape,
                    expected="every mesh axis at most once per array",
                    got=f"{axis!r} twice",
                    fix="Map one of the two to another mesh axis or to None.",
                )
            taken[axis] = name
        used = [axis for axis in axes if kinds[axis] is not AxisType.Manual]
        pieces = math.prod(sizes[axis] for axis in used)
        if shape[dimension] % pieces == 0:
            continue
        text = (
            f"Logical axis {name!r}, dimension {dimension} of an array of shape {tuple(shape)}, cannot be divided "
            f"over mesh axis {entry!r} of size {pieces}."
        )
        if traced and all(kinds[axis] is AxisType.Auto for axis in used):
            warnings.warn(f"{text} The compiler mostly keeps the whole array on every device then.", stacklevel=2)
            continue
        raise ShardingRuleError(
            text,
            name=name,
            shape=shape,
            expected=f"a multiple of {pieces}",
            got=shape[dimension],
            fix=f"Change the dimension, the mesh, or the rule for {name!r} (None replicates).",
        )


def place(value: Any, spec: Iterable[Any], mesh: AnyMesh | None, names: Iterable[Any] | None = None) -> Any:
    """Lays out the arrays of a tree as a partition spec says; array-like nodes say how their leaves follow.

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
    current = active_mesh()
    inside_shard_map = current is not None and AxisType.Manual in current.axis_types
    where = current if mesh is None or inside_shard_map else mesh
    if where is None:
        return value
    entries = tuple(spec)
    labels = entries if names is None else tuple(names)
    traced = _mesh_outside_of_jit() is None

    def leaf(x: Any) -> Any:
        if isinstance(x, ArrayNode):
            check_spec(x.shape, entries, where, labels, traced=traced)
            leaves, structure = jax.tree.flatten(x)
            specs = _leaf_specs(x, entries, where)
            return structure.unflatten([_place_array(part, each, where) for part, each in zip(leaves, specs)])
        if not isinstance(x, jax.Array | np.ndarray):
            return x
        check_spec(x.shape, entries, where, labels, traced=traced)
        return _place_array(x, entries, where)

    return jax.tree.map(leaf, value, is_leaf=is_array_node)


def spec_of(value: Any, spec: PartitionSpec, mesh: AnyMesh | None = None) -> Any:
    """Returns the partition spec of a value: as it is for an array, one per leaf, in its form, for an array-like node.

    Args:
      value: an array, an `fx_core.array_node.ArrayNode`, or anything else.
      spec: of the array that it is or stands for.
      mesh: whose sizes say what can be divided; None for the current one.
    """
    if not isinstance(value, ArrayNode):
        return spec
    specs = _leaf_specs(value, tuple(spec), active_mesh() if mesh is None else mesh)
    return jax.tree.structure(value).unflatten([PartitionSpec(*each) for each in specs])


def _leaf_specs(node: ArrayNode, spec: tuple[Any, ...], mesh: AnyMesh | None) -> list[tuple[Any, ...]]:
    sizes = {} if mesh is None else mesh.shape
    return node.leaf_specs(spec, lambda entry: math.prod(sizes.get(axis, 1) for axis in _axes(entry)))


def _place_array(x: Any, spec: tuple[Any, ...], mesh: AnyMesh) -> Any:
    kinds = dict(zip(mesh.axis_names, mesh.axis_types))
    outside = None if AxisType.Manual in kinds.values() else _mesh_outside_of_jit()
    if outside is not None:
        mesh = outside if isinstance(mesh, jax.sharding.AbstractMesh) else mesh
        if not isinstance(x, jax.core.Tracer):
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
    present = set(kinds.values())
    if AxisType.Explicit in present:
        x = jax.sharding.reshard(x, _part(spec, AxisType.Explicit, kinds, mesh))
    if AxisType.Auto in present:
        x = _constrain(x, _part(spec, AxisType.Auto, kinds, mesh))
    return x


# Under an eager vmap or grad, an array that lives on one device cannot be constrained to an abstract mesh unless a
# program is made of it; in a jit the inner one leaves no trace.
@functools.partial(jax.jit, static_argnums=1, inline=True)
def _constrain(x: Any, sharding: Any) -> Any:
    return jax.lax.with_sharding_constraint(x, sharding)


def _mesh_outside_of_jit() -> Any:
    """The current mesh with its devices, possibly empty; None while a program is traced, where devices are unknown."""
    try:
        return jax.sharding.get_mesh()
    except ValueError:
        return None


def _part(spec: tuple[Any, ...], kind: AxisType, kinds: dict[str, AxisType], mesh: AnyMesh) -> Any:
    """The part of a spec that concerns mesh axes of one kind."""
    part = PartitionSpec(*(_only(entry, kind, kinds) for entry in spec))
    return part if isinstance(mesh, jax.sharding.AbstractMesh) else NamedSharding(mesh, part)


def _only(entry: Any, kind: AxisType, kinds: dict[str, AxisType]) -> Any:
    kept = tuple(axis for axis in _axes(entry) if kinds[axis] is kind)
    return kept if len(kept) > 1 else kept[0] if kept else None


def _axes(entry: Any) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)
