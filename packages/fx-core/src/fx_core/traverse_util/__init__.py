"""Nested dicts as flat ones and back, and traversals that read and update parts of trees."""

from fx_core.traverse_util._flatten import empty_node, flatten_dict, path_aware_map, unflatten_dict
from fx_core.traverse_util._traversal import (
    ModelParamTraversal,
    Traversal,
    TraverseAttr,
    TraverseCompose,
    TraverseEach,
    TraverseFilter,
    TraverseId,
    TraverseItem,
    TraverseMerge,
    TraverseTree,
    t_identity,
)
from fx_core.typing import PathParts

__all__ = [
    "ModelParamTraversal",
    "PathParts",
    "Traversal",
    "TraverseAttr",
    "TraverseCompose",
    "TraverseEach",
    "TraverseFilter",
    "TraverseId",
    "TraverseItem",
    "TraverseMerge",
    "TraverseTree",
    "empty_node",
    "flatten_dict",
    "path_aware_map",
    "t_identity",
    "unflatten_dict",
]
