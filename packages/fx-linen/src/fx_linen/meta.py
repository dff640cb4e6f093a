"""Metadata of variables: boxes with partition names, see `fx_core.meta`."""

from fx_core.meta import (
    PARTITION_NAME,
    AxisMetadata,
    Partitioned,
    add_axis,
    get_global_mesh,
    get_partition_spec,
    get_sharding,
    global_mesh_defined,
    is_axis_metadata,
    map_axis_meta,
    remove_axis,
    replace_boxed,
    unbox,
    with_partitioning,
)

__all__ = [
    "PARTITION_NAME",
    "AxisMetadata",
    "Partitioned",
    "add_axis",
    "get_global_mesh",
    "get_partition_spec",
    "get_sharding",
    "global_mesh_defined",
    "is_axis_metadata",
    "map_axis_meta",
    "remove_axis",
    "replace_boxed",
    "unbox",
    "with_partitioning",
]
