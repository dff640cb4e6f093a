"""Placing a new value on the mesh as its metadata says."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from fx_core.spmd import shard_value

__all__ = ["place"]


def place(value: Any, metadata: Mapping[str, Any]) -> Any:
    """Returns the value, laid out by its ``out_sharding`` if there is one.

    The metadata ``sharding_rules`` maps logical names beside the rules in force, and ``mesh`` is the mesh, where it is
    not to be the current one. With the metadata ``eager_sharding=False`` the value stays as it is.

    Raises:
      ShardingRuleError: there is no mesh.
      ShardingRuleError: an array cannot be laid out so.
    """
    names = metadata.get("out_sharding")
    if not names or not metadata.get("eager_sharding", True) or not _has_arrays(value):
        return value
    return shard_value(value, names, metadata.get("sharding_rules"), metadata.get("mesh"))


def _has_arrays(value: Any) -> bool:
    return any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value))
