"""Names of axes in the metadata of variables, which transforms take away and add."""

from collections.abc import Mapping
from typing import Any

from fx_core.meta import PARTITION_NAME, Partitioned
from jax.sharding import NamedSharding, PartitionSpec

__all__ = ["add_axis", "remove_axis"]


def add_axis(variable: Any, index: int, transform_metadata: Mapping[str, Any]) -> None:
    """Informs a variable that its value gets an axis: names are put in, and its method ``add_axis`` is called.

    Args:
      variable: the variable, whose value has not got the axis yet.
      index: the axis; a negative one counts from the end of the new value.
      transform_metadata: the name of the axis under ``PARTITION_NAME``, which goes into ``out_sharding``; and under the
        names of other metadata what goes into those, if they are tuples.

    Raises:
      ItemNotFoundError: the index is out of range.
      PartitioningUnspecifiedError: there is no name for the axis.
    """
    _change(variable, index, transform_metadata, "add_axis")


def remove_axis(variable: Any, index: int, transform_metadata: Mapping[str, Any]) -> None:
    """Informs a variable that its value has lost an axis: the opposite of `add_axis`.

    Raises:
      ItemNotFoundError: the index is out of range.
      ShardingRuleError: the axis has another name.
      PartitioningUnspecifiedError: there is no name for the axis.
    """
    _change(variable, index, transform_metadata, "remove_axis")


def _change(variable: Any, index: int, transform_metadata: Mapping[str, Any], method: str) -> None:
    meta = variable._nnx_meta
    at = index
    if index < 0 and (ndim := getattr(variable._raw_value, "ndim", None)) is not None:
        at = ndim + 1 + index  # a specification may be shorter than the value has axes
    changed = {}
    for entry, name in transform_metadata.items():
        entry = "out_sharding" if entry == PARTITION_NAME else entry
        names = meta.get(entry)
        if names and isinstance(names, tuple | list | PartitionSpec | NamedSharding):
            changed[entry] = _names(names, at, name, method)
    if changed:
        variable._nnx_set_meta(meta.updated(**changed))
    getattr(variable, method)(index, transform_metadata.get(PARTITION_NAME))


def _names(names: Any, at: int, name: Any, method: str) -> Any:
    if isinstance(names, NamedSharding):
        return NamedSharding(names.mesh, PartitionSpec(*_names(names.spec, at, name, method)))
    # Names of Linen's boxes follow the same rules.
    return getattr(Partitioned(None, tuple(names)), method)(at, {PARTITION_NAME: name}).names
