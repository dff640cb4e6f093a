"""Mistakes with axis metadata and sharding rules."""

from collections.abc import Mapping, Sequence
from typing import Any

from fx_core.errors._base import FxError

__all__ = [
    "InconsistentRulesError",
    "IndivisibleAxisError",
    "MeshAxisNotFoundError",
    "MeshAxisReusedError",
    "MeshRequiredError",
    "PartitionAxisError",
    "PartitionNameMismatchError",
    "PartitioningUnspecifiedError",
    "ShardingRuleError",
    "TooManyAxisNamesError",
]


class PartitioningUnspecifiedError(FxError):
    """A transform adds or removes an axis of a variable with partition names, and nobody said how that axis is called.

    Wrong::

        nn.vmap(Dense, variable_axes={"params": 0}, split_rngs={"params": True})

    Right (None when the axis is not partitioned)::

        nn.vmap(Dense, variable_axes={"params": 0}, split_rngs={"params": True},
                metadata_params={nn.PARTITION_NAME: "layers"})

    Args:
      target: the variable's metadata.
    """

    def __init__(self, target: Any):
        names = getattr(target, "names", None)
        super().__init__(
            "A variable with partition names gains or loses an axis that has no name.",
            expected="metadata_params with the entry PARTITION_NAME ('partition_name')",
            got=f"{type(target).__name__} with names {names}" if names is not None else repr(target),
            fix="Pass metadata_params={PARTITION_NAME: name} to the transform; None if the axis is not partitioned.",
        )


class PartitionNameMismatchError(FxError, ValueError):
    """The axis that a transform takes away from a variable has another name than the transform says.

    Wrong::

        Partitioned(w, ("layers", "embed")).remove_axis(1, {PARTITION_NAME: "layers"})

    Right::

        Partitioned(w, ("layers", "embed")).remove_axis(0, {PARTITION_NAME: "layers"})

    Args:
      names: the variable's partition names.
      index: the axis that is taken away.
      name: what the transform calls it.
    """

    def __init__(self, names: Sequence[str | None], index: int, name: str | None):
        super().__init__(
            f"Axis {index} of a variable with partition names {tuple(names)} is not {name!r}.",
            expected=f"{name!r} at index {index}",
            got=repr(names[index]),
            fix="Give the transform the axis and the partition name that the variable was created with.",
        )


class PartitionAxisError(FxError, IndexError):
    """A transform adds or removes an axis that the variable's partition names do not reach.

    Wrong::

        Partitioned(w, ("embed",)).remove_axis(1, {PARTITION_NAME: "layers"})

    Right::

        Partitioned(w, ("layers", "embed")).remove_axis(0, {PARTITION_NAME: "layers"})

    Args:
      names: the variable's partition names.
      index: the axis.
    """

    def __init__(self, names: Sequence[str | None], index: int):
        super().__init__(
            f"Axis {index} is out of range for partition names {tuple(names)}.",
            expected=f"an axis of an array with {len(names)} named dimensions",
            got=index,
            fix="Give every dimension a name or None, and check the transform's variable_axes.",
        )


class InconsistentRulesError(FxError, ValueError):
    """A logical axis has two rules that disagree, one from the context and one from the variable.

    Wrong::

        with logical_axis_rules((("batch", "data"),)):
            apply_rules(("batch",), (("batch", "model"),))

    Right::

        with logical_axis_rules((("batch", "data"),)):
            apply_rules(("batch",), (("embed", "model"),))

    Args:
      name: the logical axis.
      first: its mesh axis by the first rules.
      second: its mesh axis by the second rules.
    """

    def __init__(self, name: str, first: Any, second: Any):
        super().__init__(
            f"Two rules for the logical axis {name!r} disagree.",
            expected=f"{name!r} -> {first!r} everywhere",
            got=f"also {name!r} -> {second!r}",
            fix="Remove one of the rules, or give the axes different names.",
        )


class MeshRequiredError(FxError, ValueError):
    """A value is to be placed by axis names, and there is no mesh with such axes.

    Wrong::

        shard_value(x, ("data",), None, None)

    Right::

        with jax.set_mesh(mesh):
            shard_value(x, ("data",), None, None)

    Args:
      spec: the partition spec that was asked for.
    """

    def __init__(self, spec: Any):
        super().__init__(
            "Axis names cannot be turned into a sharding without a mesh.",
            expected="a mesh",
            got=f"{spec} and no mesh",
            fix="Enter a mesh with jax.set_mesh(mesh), or give the variable's metadata a mesh.",
        )


class ShardingRuleError(FxError, ValueError):
    """Base class: an array cannot be laid out as its axis names and the rules want.

    Attributes:
      name: the logical name (or the mesh axis, when no rule applied) of the dimension.
      shape: shape of the array.
    """

    def __init__(self, what: str, *, name: Any, shape: Sequence[int], expected: Any, got: Any, fix: str):
        self.name, self.shape = name, tuple(shape)
        super().__init__(what, expected=expected, got=got, fix=fix)


class MeshAxisNotFoundError(ShardingRuleError):
    """A dimension is mapped to a mesh axis that the mesh does not have.

    A logical name without a rule stands for the mesh axis of that name.

    Wrong::

        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        shard_value(x, ("embed",), (("embed", "model"),), mesh)

    Right::

        shard_value(x, ("embed",), (("embed", "data"),), mesh)

    Args:
      name: logical name of the dimension.
      shape: shape of the array.
      mesh_axis: the axis it is mapped to.
      mesh_shape: axes of the mesh and their sizes.
    """

    def __init__(self, name: Any, shape: Sequence[int], mesh_axis: str, mesh_shape: Mapping[str, int]):
        super().__init__(
            f"Logical axis {name!r} of an array of shape {tuple(shape)} is mapped to {mesh_axis!r}, "
            "which is not an axis of the mesh.",
            name=name,
            shape=shape,
            expected=f"one of the mesh axes {dict(mesh_shape)}",
            got=repr(mesh_axis),
            fix=f"Add a rule for {name!r} that names a mesh axis or None, or make a mesh with {mesh_axis!r}.",
        )


class IndivisibleAxisError(ShardingRuleError):
    """A dimension cannot be divided evenly over the mesh axes it is mapped to.

    Wrong::

        shard_value(jnp.ones(6), ("embed",), (("embed", "model"),), mesh)   # model: 4

    Right::

        shard_value(jnp.ones(8), ("embed",), (("embed", "model"),), mesh)

    Args:
      name: logical name of the dimension.
      shape: shape of the array.
      dimension: which dimension.
      mesh_axis: the axis or axes it is mapped to.
      size: number of pieces.
    """

    def __init__(self, name: Any, shape: Sequence[int], dimension: int, mesh_axis: Any, size: int):
        super().__init__(
            f"Logical axis {name!r}, dimension {dimension} of an array of shape {tuple(shape)}, cannot be divided over "
            f"mesh axis {mesh_axis!r} of size {size}.",
            name=name,
            shape=shape,
            expected=f"a multiple of {size}",
            got=shape[dimension],
            fix=f"Change the dimension, the mesh, or the rule for {name!r} (None replicates).",
        )


class MeshAxisReusedError(ShardingRuleError):
    """Two dimensions of one array are mapped to the same mesh axis.

    Wrong::

        shard_value(jnp.ones((8, 8)), ("heads", "embed"), (("heads", "model"), ("embed", "model")), mesh)

    Right::

        shard_value(jnp.ones((8, 8)), ("heads", "embed"), (("heads", "model"), ("embed", None)), mesh)

    Args:
      name: logical name of the second dimension.
      other: logical name of the first one.
      shape: shape of the array.
      mesh_axis: the axis that both are mapped to.
      size: its size.
    """

    def __init__(self, name: Any, other: Any, shape: Sequence[int], mesh_axis: str, size: int):
        super().__init__(
            f"Logical axes {other!r} and {name!r} of an array of shape {tuple(shape)} are both mapped to mesh axis "
            f"{mesh_axis!r} of size {size}.",
            name=name,
            shape=shape,
            expected="every mesh axis at most once per array",
            got=f"{mesh_axis!r} twice",
            fix="Map one of the two to another mesh axis or to None.",
        )


class TooManyAxisNamesError(ShardingRuleError):
    """There are more axis names than the array has dimensions.

    Wrong::

        Partitioned(jnp.ones(8), ("embed", "mlp"))

    Right::

        Partitioned(jnp.ones(8), ("mlp",))

    Args:
      names: the axis names.
      shape: shape of the array.
    """

    def __init__(self, names: Sequence[Any], shape: Sequence[int]):
        super().__init__(
            f"An array of shape {tuple(shape)} has {len(names)} axis names.",
            name=tuple(names),
            shape=shape,
            expected=f"at most {len(shape)} names",
            got=tuple(names),
            fix="Give one name, or None, per dimension.",
        )
