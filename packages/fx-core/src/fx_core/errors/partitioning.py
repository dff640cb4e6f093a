"""Mistakes with axis metadata and sharding rules."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors._base import FxError


class PartitioningUnspecifiedError(FxError):
    """A transform adds or removes an axis of a variable with partition names, without a name for that axis.

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


class ShardingRuleError(FxError, ValueError):
    """An array, a batch or a network cannot be laid out on devices as its axis names, the rules and the mesh want.

    Wrong::

        shard_value(jnp.ones((8, 8)), ("heads", "embed"), (("heads", "model"), ("embed", "model")), mesh)

    Right::

        shard_value(jnp.ones((8, 8)), ("heads", "embed"), (("heads", "model"), ("embed", None)), mesh)

    Attributes:
      name: the logical name (or the mesh axis, when no rule applied) of the dimension, if it is about one.
      shape: shape of the array, if it is about one.
    """

    def __init__(self, what: str, *, name: Any = None, shape: Sequence[int] = (), **fields: Any):
        self.name, self.shape = name, tuple(shape)
        super().__init__(what, **fields)


def mesh_required(spec: Any) -> ShardingRuleError:
    """A value is to be placed by axis names, and there is no mesh with such axes."""
    return ShardingRuleError(
        "Axis names cannot be turned into a sharding without a mesh.",
        expected="a mesh",
        got=f"{spec} and no mesh",
        fix="Enter a mesh with jax.set_mesh(mesh), or give the variable's metadata a mesh.",
    )
