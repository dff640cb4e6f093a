"""Structures that refer to objects which exist: `flatten` and `unflatten` with tables of references."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from fx_core.compat.jax import current_trace

from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.functions import flatten_node
from fx_nnx.graph.functions import unflatten as unflatten_node
from fx_nnx.graph.record import Walk
from fx_nnx.modes import set_graph_mode
from fx_nnx.states.flat import FlatState
from fx_nnx.transforms.layout import read_value
from fx_nnx.variables.fields import filled
from fx_nnx.variables.variable import Variable

__all__ = ["RefMap", "flatten", "unflatten"]


class RefMap(MutableMapping[Any, int]):
    """A mapping whose keys are objects and variables, compared by identity.

    Args:
      items: pairs of an object and a number.
    """

    def __init__(self, items: Iterable[tuple[Any, int]] = ()):
        self._items: dict[int, tuple[Any, int]] = {}
        for key, value in items:
            self[key] = value

    def __getitem__(self, key: Any) -> int:
        return self._items[id(key)][1]

    def __setitem__(self, key: Any, value: int) -> None:
        self._items[id(key)] = key, value

    def __delitem__(self, key: Any) -> None:
        del self._items[id(key)]

    def __contains__(self, key: object) -> bool:
        return id(key) in self._items

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def pairs(self) -> list[tuple[Any, int]]:
        """Returns objects and numbers."""
        return list(self._items.values())


def flatten(
    node: Any,
    /,
    *,
    with_paths: bool = True,
    ref_index: RefMap | None = None,
    ref_outer_index: RefMap | None = None,
    graph: bool | None = None,
) -> tuple[GraphDef, Any]:
    """Returns the structure of a model and its leaves, as a `FlatState` or, without paths, as a list.

    Args:
      node: the model.
      with_paths: whether to give paths.
      ref_index: numbers of objects that are known, which the structure then refers to; new ones are added.
      ref_outer_index: numbers that objects have elsewhere, to be noted in the structure.
      graph: as in `fx_nnx.split`.

    >>> import fx_nnx as nnx
    >>> graphdef, leaves = nnx.flatten(nnx.Dict(w=nnx.Param(1.0)))
    >>> leaves.paths
    (('w',),)
    """
    if ref_index is None and ref_outer_index is None:
        return flatten_node(node, with_paths=with_paths, graph=graph)
    known = RefMap() if ref_index is None else ref_index
    walk = Walk(shared=set_graph_mode.resolve(graph))
    walk.index.update({id(ref): number for ref, number in known.pairs()})
    first = len(walk.index)
    walk.root(node, ())
    for number, ref in enumerate(walk.objects, first):
        known[ref] = number
    outer = RefMap() if ref_outer_index is None else ref_outer_index
    pairs = [(number, outer[ref]) for number, ref in enumerate(walk.objects, first) if ref in outer]
    graphdef = GraphDef(walk.nodes, walk.attributes, len(walk.leaves), pairs)
    graphdef.paths = walk.paths
    leaves = [leaf if isinstance(leaf, Variable) else read_value(leaf) for leaf in walk.leaves]
    return graphdef, FlatState.from_sorted_keys_values(walk.paths, leaves) if with_paths else leaves


def unflatten(
    graphdef: GraphDef,
    state: Any,
    /,
    *,
    index_ref: MutableMapping[int, Any] | None = None,
    outer_index_outer_ref: Mapping[int, Any] | None = None,
    copy_variables: bool = False,
    recreate_variables: bool = True,
) -> Any:
    """Merges a model from what `flatten` gave: a flat state, or a list of leaves in its order.

    Args:
      graphdef: the structure.
      state: the leaves.
      index_ref: objects by number that the structure may refer to; new ones are added.
      outer_index_outer_ref: objects by their number elsewhere: they are changed to what the structure says, and used.
      copy_variables: whether to copy variables instead of using them.
      recreate_variables: whether a bare value in the place of a variable gets a new variable, or is put there itself.

    >>> import fx_nnx as nnx
    >>> nnx.unflatten(*nnx.flatten(nnx.Dict(w=nnx.Param(1.0)))).w.get_value()
    1.0
    """
    if index_ref is None and not outer_index_outer_ref:
        return unflatten_node(graphdef, state, copy_variables=copy_variables, recreate_variables=recreate_variables)
    by_path = dict(state) if isinstance(state, FlatState | Mapping) else dict(zip(graphdef.paths, state))
    leaves = [by_path[path] for path in graphdef.paths]
    known = {
        number: outer_index_outer_ref[outer]
        for number, outer in graphdef.outer
        if outer_index_outer_ref and outer in outer_index_outer_ref
    }
    index = {**known, **({} if index_ref is None else index_ref)}
    assembly, trace = assembly_of(graphdef), current_trace()
    for position, (cls, meta, number) in enumerate(zip(assembly.types, assembly.metas, graphdef.numbers)):
        if number is None:
            continue
        leaf, found = leaves[position], known.get(number)
        if found is not None:
            _write(found, leaf)
            leaf = found
        elif isinstance(leaf, Variable):
            leaf = leaf.copy() if copy_variables else leaf
        elif recreate_variables:
            leaf = filled(cls, leaf, meta, trace)
        leaves[position] = index[number] = leaf
    ((made,), _) = assembly.build(leaves, index, known=known)
    if index_ref is not None:
        index_ref.update(index)
    return made


def _write(variable: Any, leaf: Any) -> None:
    if not isinstance(leaf, Variable):
        variable.set_raw_value(leaf)
    elif leaf is not variable:
        variable.copy_from(leaf)
