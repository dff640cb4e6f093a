"""Trees of arrays that stand for trees with objects in them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from fx_core.struct import PyTreeNode, field
from fx_transforms.axes import check_aliases

from fx_nnx.errors import NnxError
from fx_nnx.graph.kinds import is_node
from fx_nnx.paths import show_path
from fx_nnx.transforms.arguments import Missing
from fx_nnx.transforms.contexts import MergeContext, SplitContext, merge_context, split_context
from fx_nnx.transforms.layout import root_paths, variables_in
from fx_nnx.transforms.prefixes import PerVariable, spread_prefix

__all__ = ["NodeStates", "from_tree", "to_tree"]


class NodeStates(PyTreeNode):
    """Stands for an object in a tree: its structure and its states.

    Attributes:
      states: the states.
      metadata: anything hashable.

    >>> import fx_nnx as nnx
    >>> graphdef, state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> node = nnx.NodeStates.from_split(graphdef, state, metadata="encoder")
    >>> node.metadata, node.graphdef == graphdef
    ('encoder', True)
    """

    _graphdef: Any
    states: tuple[Any, ...]
    metadata: Any = field(pytree_node=False, default=None)

    @property
    def graphdef(self) -> Any:
        """The structure.

        Raises:
          NnxError: there is none.
        """
        if self._graphdef is None:
            raise _node_states("These states have no graph definition.", "one from a split", None)
        return self._graphdef

    @property
    def state(self) -> Any:
        """The one state.

        Raises:
          NnxError: there are several.
        """
        if len(self.states) != 1:
            raise _node_states("There is not exactly one state.", 1, len(self.states))
        return self.states[0]

    @classmethod
    def from_split(cls, graphdef: Any, state: Any, /, *states: Any, metadata: Any = None) -> "NodeStates":
        """Creates one of what a split gave."""
        return cls(_graphdef=graphdef, states=(state, *states), metadata=metadata)

    @classmethod
    def from_states(cls, state: Any, /, *states: Any) -> "NodeStates":
        """Creates one of states alone."""
        return cls(_graphdef=None, states=(state, *states))

    @classmethod
    def from_prefixes(cls, prefixes: Any, /, *, metadata: Any = None) -> "NodeStates":
        """Creates one that is a prefix of others: an entry in the place of each state."""
        return cls(_graphdef=None, states=tuple(prefixes), metadata=metadata)


def default_split(ctx: SplitContext, path: Any, prefix: Any, leaf: Any) -> NodeStates:
    """Takes an object apart, into one state."""
    del path, prefix
    return NodeStates.from_split(*ctx.split(leaf))


def merge_tree_node(ctx: MergeContext, path: Any, prefix: Any, leaf: Any) -> Any:
    """Merges an object."""
    del path, prefix
    return ctx.merge(leaf.graphdef, *leaf.states)


def is_tree_node(x: Any) -> bool:
    """Returns whether something stands for an object."""
    return isinstance(x, NodeStates)


def to_tree(
    tree: Any,
    /,
    *,
    prefix: Any = Missing,
    split_fn: Callable[[SplitContext, Any, Any, Any], Any] = default_split,
    map_non_graph_nodes: bool = False,
    ctxtag: Any = None,
    check_aliasing: bool = True,
) -> Any:
    """Returns a tree with `NodeStates` in the place of objects, whose references to each other are kept.

    >>> import fx_nnx as nnx
    >>> model = nnx.Dict(w=nnx.Param(1))
    >>> first, second = from_tree(to_tree((model, model)))
    >>> first is second
    True

    Args:
      tree: a tree of objects and arrays.
      prefix: entries for ``split_fn``, a prefix of the tree.
      split_fn: ``(context, path, entry, object) -> what stands for it``.
      map_non_graph_nodes: whether ``split_fn`` gets arrays too.
      ctxtag: tag of an `update_context`.
      check_aliasing: whether to make sure that variables have one entry, however they are reached.

    Raises:
      TransformError: a variable has two entries.
    """
    names, leaves, treedef = root_paths(tree)
    entries = [None] * len(leaves) if prefix is Missing else spread_prefix("prefix of to_tree", prefix, tree)
    if check_aliasing and prefix is not Missing:
        _check(names, leaves, entries)
    with split_context(ctxtag) as ctx:
        made = [
            split_fn(ctx, tuple(name), entry, leaf) if is_node(leaf) or map_non_graph_nodes else leaf
            for name, entry, leaf in zip(names, entries, leaves)
        ]
    return jax.tree.unflatten(treedef, made)


def _check(names: Sequence[Any], leaves: Sequence[Any], entries: Sequence[Any]) -> None:
    found: list[tuple[int, str, Any]] = []
    for number, path, variable in variables_in(names, leaves):
        entry = entries[number]
        here = entry.map_prefix(path[1:], variable) if isinstance(entry, PerVariable) else entry
        found.append((id(variable), show_path(path), here))
    check_aliases("to_tree", found)


def from_tree(
    tree: Any,
    /,
    *,
    prefix: Any = Missing,
    merge_fn: Callable[[MergeContext, Any, Any, Any], Any] = merge_tree_node,
    is_node_leaf: Callable[[Any], bool] = is_tree_node,
    is_leaf: Callable[[Any], bool] = is_tree_node,
    map_non_graph_nodes: bool = False,
    is_inner: bool | None = None,
    ctxtag: Any = None,
) -> Any:
    """Undoes `to_tree`.

    Args:
      tree: what it gave.
      prefix: entries for ``merge_fn``, a prefix of the tree.
      merge_fn: ``(context, path, entry, leaf) -> object``.
      is_node_leaf: which leaves stand for objects.
      is_leaf: what is a leaf although it is a tree.
      map_non_graph_nodes: whether ``merge_fn`` gets the other leaves too.
      is_inner: whether this is inside of a transform, see `merge_context`.
      ctxtag: tag of an `update_context`.

    >>> import fx_nnx as nnx
    >>> tree = nnx.to_tree({"layer": nnx.Linear(2, 3, rngs=nnx.Rngs(0))})
    >>> nnx.from_tree(tree)["layer"].out_features
    3
    """
    pairs, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)
    entries: list[Any] = [None] * len(pairs)
    if prefix is not Missing:
        entries = []

        def add(entry: Any, part: Any) -> None:
            entries.extend([entry] * len(jax.tree.leaves(part, is_leaf=is_leaf)))

        jax.tree.map(add, prefix, tree, is_leaf=lambda x: x is None or isinstance(x, PerVariable) or is_leaf(x))
    with merge_context(ctxtag, is_inner) as ctx:
        made = [
            merge_fn(ctx, path, entry, leaf) if is_node_leaf(leaf) or map_non_graph_nodes else leaf
            for (path, leaf), entry in zip(pairs, entries)
        ]
    return jax.tree.unflatten(treedef, made)


def _node_states(what: str, expected: Any, got: Any) -> NnxError:
    return NnxError(what, expected=expected, got=got, fix="make them with NodeStates.from_split, or use .states")
