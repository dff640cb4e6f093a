"""States of models: nested, flat and pure."""

from fx_nnx.states.flat import FlatState
from fx_nnx.states.pure import (
    as_pure,
    filter_state,
    from_flat_state,
    map_state,
    merge_state,
    pure,
    replace_by_pure_dict,
    restore_int_paths,
    split_state,
    to_flat_state,
    to_pure_dict,
)
from fx_nnx.states.state import State

__all__ = [
    "FlatState",
    "State",
    "as_pure",
    "filter_state",
    "from_flat_state",
    "map_state",
    "merge_state",
    "pure",
    "replace_by_pure_dict",
    "restore_int_paths",
    "split_state",
    "to_flat_state",
    "to_pure_dict",
]
