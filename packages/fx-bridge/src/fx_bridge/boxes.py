"""Metadata across the bridge: boxes on the Linen side, metadata of variables on the NNX side."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from fx_core import meta, struct
from fx_core.frozen_dict import FrozenDict
from fx_nnx import Variable, get_partition_spec, variable_type_from_name
from fx_nnx import with_partitioning as nnx_with_partitioning
from fx_nnx.modes import use_eager_sharding
from fx_nnx.variables.axes import add_axis, remove_axis
from fx_nnx.variables.metadata import REQUIRED

__all__ = ["BOX_TYPE", "NNXMeta", "laid_out", "to_linen_var", "variable_of", "with_partitioning"]

BOX_TYPE = "linen_meta_type"
"""The metadata that says which box of Linen a variable has there."""

_SETTINGS = {"eager_sharding"}
"""Metadata that alone makes no box: it is the configuration under which a variable was made."""
_NONE: Any = object()

A = TypeVar("A")


class NNXMeta(struct.PyTreeNode, meta.AxisMetadata[A]):
    """A Linen box for the metadata of an NNX variable that no box of Linen can hold.

    Attributes:
      var_type: the type of the variable.
      value: its value.
      metadata: its metadata, without what every variable has.

    >>> import fx_bridge
    >>> import fx_nnx as nnx
    >>> box = fx_bridge.NNXMeta(nnx.Param, 1.0, {"axes": ("embed",)})
    >>> box.unbox(), box.to_nnx_variable().axes
    (1.0, ('embed',))
    """

    var_type: type[Variable[Any]] = struct.field(pytree_node=False)
    value: A
    metadata: Mapping[str, Any] = struct.field(pytree_node=False)

    def unbox(self) -> Any:
        """Returns the value."""
        return self.value

    def replace_boxed(self, val: Any) -> "NNXMeta":
        """Returns the same metadata around another value."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: Mapping[Any, Any]) -> "NNXMeta":
        """Returns the metadata after a transform has given the value a new axis, by the rules of the variable."""
        return self._changed(add_axis, index, params)

    def remove_axis(self, index: int, params: Mapping[Any, Any]) -> "NNXMeta":
        """Returns the metadata after a transform has taken an axis away, by the rules of the variable."""
        return self._changed(remove_axis, index, params)

    def get_partition_spec(self) -> Any:
        """Returns the partition spec of the variable, by its ``out_sharding`` and the rules in force."""
        return get_partition_spec(self.to_nnx_variable()).get_raw_value()

    def to_nnx_variable(self) -> Variable[Any]:
        """Returns the variable."""
        return self.var_type.from_metadata(self.value, self.metadata)

    def _changed(self, change: Callable[..., None], index: int, params: Mapping[Any, Any]) -> "NNXMeta":
        # Only the metadata matters: a value in a reference stays where it is.
        variable = self.var_type.from_metadata(None, {**self.metadata, "ref": False})
        change(variable, index, {meta.PARTITION_NAME: None, **params})
        kept = {"ref": True} if self.metadata.get("ref") else {}
        return self.replace(metadata=_hashable({**_metadata_of(variable), **kept}))


def variable_of(collection: str, leaf: Any, *, allow_register: bool = False) -> Variable[Any]:
    """Returns the NNX variable for a leaf of a Linen collection, boxed or not.

    Raises:
      NnxError: no variable type stands for the collection.
    """
    if isinstance(leaf, NNXMeta):
        return leaf.to_nnx_variable()
    kind = variable_type_from_name(collection, allow_register=allow_register)
    if not isinstance(leaf, meta.AxisMetadata):
        return kind.from_metadata(leaf, {})
    if isinstance(leaf, meta.Partitioned):
        described = {name: entry for name, entry in leaf.to_nnx_metadata().items() if name != "value"}
        return kind.from_metadata(leaf.value, {**described, BOX_TYPE: type(leaf)})
    return kind.from_metadata(leaf.unbox(), {BOX_TYPE: type(leaf), "linen_box": leaf.replace_boxed(None)})


def laid_out(leaf: Any) -> Any:
    """Returns a leaf of a Linen collection with its array on the mesh by its axis names, as NNX makes variables.

    As in Linen, no mesh is needed.

    Raises:
      ShardingRuleError: the array cannot be laid out so.
    """
    if isinstance(leaf, meta.Partitioned) and use_eager_sharding.resolve(None):
        return leaf.replace_boxed(leaf.unbox())
    return leaf


def with_partitioning(
    fn: Callable[..., Any], names: meta.LogicalNames, mesh: jax.sharding.Mesh | None = None
) -> Callable[..., Any]:
    """Lets an initializer of an NNX layer or a `Module` give its variable axis names, which are Linen's in Linen.

    >>> import jax, jax.numpy as jnp
    >>> import fx_bridge
    >>> import fx_nnx as nnx
    >>> kernel_init = with_partitioning(nnx.initializers.ones, ("embed", "mlp"))
    >>> with nnx.use_eager_sharding(False):
    ...     layer = fx_bridge.to_linen(nnx.Linear, 2, 3, kernel_init=kernel_init)
    ...     layer.init(jax.random.key(0), jnp.ones((1, 2)))["params"]["kernel"].names
    ('embed', 'mlp')

    Args:
      fn: the initializer.
      names: one mesh axis, logical name or None per dimension.
      mesh: the mesh, when it is not to be the current one.
    """
    return nnx_with_partitioning(fn, names, mesh, **{BOX_TYPE: meta.Partitioned})


def to_linen_var(variable: Variable[Any]) -> Any:
    """Returns the leaf of a Linen collection for an NNX variable: its value, boxed if it has metadata.

    >>> import fx_nnx as nnx
    >>> to_linen_var(nnx.Param(1.0)), to_linen_var(nnx.Param(1.0, tag="a")).metadata
    (1.0, FrozenDict({
        tag: 'a',
    }))
    """
    value, metadata = variable.get_raw_value(), _metadata_of(variable)
    if variable.ref:
        value = value[...]
    if metadata.keys() <= _SETTINGS:
        return value
    box = metadata.pop(BOX_TYPE, None)
    if "linen_box" in metadata:
        return metadata["linen_box"].replace_boxed(value)
    if box is not None:
        return box.from_nnx_metadata({**metadata, "value": value})
    return NNXMeta(type(variable), value, _hashable(metadata))


def _metadata_of(variable: Variable[Any]) -> dict[str, Any]:
    """Give the metadata without what every variable has."""
    return {name: entry for name, entry in variable.get_metadata().items() if entry != REQUIRED.get(name, _NONE)}


def _hashable(metadata: Mapping[str, Any]) -> Any:
    return FrozenDict(metadata)
