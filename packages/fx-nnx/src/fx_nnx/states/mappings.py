"""Nested mappings, states among them, as flat ones and back; and what one state has that another has not."""

from collections.abc import Callable, Mapping
from typing import Any

from fx_core.traverse_util import empty_node, flatten_dict, unflatten_dict

from fx_nnx.states.nesting import nested_dicts
from fx_nnx.states.state import State

__all__ = ["diff", "empty_node", "flatten_mapping", "flatten_to_sequence", "unflatten_mapping"]


def diff(state: State, other: State) -> State:
    """Returns what a state has at paths that another one has not.

    >>> diff(State({"a": 1, "b": {"c": 2}}), State({"a": 5})).to_pure_dict()
    {'b': {'c': 2}}
    """
    return state - other


def flatten_mapping(
    xs: Mapping[Any, Any],
    /,
    *,
    keep_empty_nodes: bool = False,
    is_leaf: Callable[[tuple[Any, ...], Any], bool] | None = None,
    sep: str | None = None,
) -> dict[Any, Any]:
    """Returns a dictionary of the values of a nested mapping by path; see `fx_core.traverse_util.flatten_dict`.

    >>> flatten_mapping(State({"a": {"b": 1}, "c": 2}), sep="/")
    {'a/b': 1, 'c': 2}

    Args:
      xs: a nested mapping.
      keep_empty_nodes: whether empty mappings inside become `empty_node`; they are left out otherwise.
      is_leaf: a function of path and value that says where not to go further.
      sep: what joins the keys to text; None for tuples.
    """
    return flatten_dict(nested_dicts(xs), keep_empty_nodes=keep_empty_nodes, is_leaf=is_leaf, sep=sep)


def flatten_to_sequence(
    xs: Mapping[Any, Any], /, *, is_leaf: Callable[[tuple[Any, ...], Any], bool] | None = None
) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns pairs of path and value of a nested mapping.

    >>> flatten_to_sequence({"a": {"b": 1}})
    [(('a', 'b'), 1)]
    """
    return list(flatten_mapping(xs, is_leaf=is_leaf).items())


def unflatten_mapping(xs: Mapping[Any, Any], /, *, sep: str | None = None) -> dict[Any, Any]:
    """Returns the nested dictionary of a flat one.

    >>> unflatten_mapping({"a/b": 1}, sep="/")
    {'a': {'b': 1}}
    """
    made: dict[Any, Any] = unflatten_dict(xs, sep=sep)
    return made
