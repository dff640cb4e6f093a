"""Making a model of a graph definition and all of its values, fast.

A definition is read once: each object then knows which of the values are its attributes, by their position, and takes
them in one step. `fx_nnx.graph.build` is for several models that refer to each other, and to objects that exist.
"""

import functools
from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, cast

import jax
from fx_core._jax import current_trace
from fx_core.errors.nnx import UnknownReferenceError

from fx_nnx.graph.definition import EMPTY, LEAF, NODE, GraphDef, NodeDef, NodeRef, VariableDef
from fx_nnx.objects.pytree import Pytree, SharedKinds, filled_object
from fx_nnx.variables.fields import filled, filled_all
from fx_nnx.variables.variable import Variable

__all__ = ["Assembly", "assembly_of", "value_of"]


value_of = attrgetter("_value")
meta_of = attrgetter("_meta")


class Assembly:
    """How to make models of a definition.

    Attributes:
      types: for each value the type of its variable, or None for a value without one.
      metas: for each value the metadata of its variable.
      plain: whether all values are in variables, and none of these keeps it in a `jax.Ref`.
    """

    __slots__ = ("_root", "metas", "plain", "types")

    def __init__(self, graphdef: GraphDef):
        reading = _Reading(graphdef)
        self._root = reading.node(next(reading.nodes))
        self.types: list[Any] = reading.types
        self.metas: list[Any] = reading.metas
        self.plain = None not in self.types and not any(meta["ref"] for meta in self.metas)

    def clone(self, leaves: Sequence[Any]) -> Any:
        """Make a model of copies of the values of another one that has just this definition."""
        if not self.plain:
            return self.make(leaves, copy=True)
        trace = current_trace()
        return self._root(filled_all(self.types, map(value_of, leaves), self.metas, trace), trace, {})

    def make(self, leaves: Sequence[Any], *, copy: bool = False) -> Any:
        """Make a model of its values: variables, which may be copied first, or bare values for them."""
        trace = current_trace()
        if copy and self.fits(leaves):
            leaves = filled_all(self.types, map(value_of, leaves), self.metas, trace)
        elif copy or list(map(type, leaves)) != self.types:
            leaves = [_leaf(*item, copy, trace) for item in zip(self.types, leaves, self.metas)]
        return self._root(leaves, trace, {})

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Whether all values are variables, with the types and the metadata of the definition."""
        return self.plain and list(map(type, leaves)) == self.types and list(map(meta_of, leaves)) == self.metas


def assembly_of(graphdef: GraphDef) -> Assembly:
    """Give the assembly of a definition, which remembers it."""
    found = graphdef._assembly
    if found is None:
        found = graphdef._assembly = Assembly(graphdef)
    return found


def _leaf(cls: Any, leaf: Any, meta: Any, copy: bool, trace: object) -> Any:
    if isinstance(leaf, Variable):
        return leaf.copy() if copy else leaf
    if cls is None:
        return leaf
    boxed = jax.new_ref(leaf) if meta["ref"] and not isinstance(leaf, jax.Ref) else leaf
    return filled(cls, boxed, meta, trace)


Make = Callable[[Sequence[Any], object, dict[int, Any]], Any]
"""Makes a node, of all the values, the token of the trace, and objects by number."""


class _Reading:
    """One reading of a definition."""

    def __init__(self, graphdef: GraphDef):
        self.nodes, self.attributes = iter(graphdef.nodes), iter(graphdef.attributes)
        self.types: list[Any] = []
        self.metas: list[Any] = []
        self.positions: dict[int, int] = {}
        self.met: set[int] = set()
        # Only objects that something refers to have to be found again.
        self.referred = {node.index for node in graphdef.nodes if type(node) is NodeRef}

    def leaf(self, cls: type[Any] | None, meta: Any) -> int:
        self.types.append(cls)
        self.metas.append(meta)
        return len(self.types) - 1

    def child(self, attribute: Any) -> tuple[bool, Any]:
        """Read an attribute: whether it is a value, and the position of the value or how to make the node."""
        if attribute is LEAF:
            return True, self.leaf(None, None)
        node = next(self.nodes)
        if type(node) is VariableDef:
            position = self.positions[node.index] = self.leaf(node.type, node.metadata)
            return True, position
        if type(node) is NodeRef and node.index in self.positions:
            return True, self.positions[node.index]
        return False, self.node(node)

    def node(self, node: Any) -> Make:
        if type(node) is VariableDef:
            position = self.positions[node.index] = self.leaf(node.type, node.metadata)
            return lambda leaves, trace, made: leaves[position]
        if type(node) is NodeRef:
            if node.index not in self.met:
                raise UnknownReferenceError(node.index)
            return lambda leaves, trace, made: made[node.index]
        return self.object(node) if issubclass(node.type, Pytree) else self.container(node)

    def read(self, node: NodeDef) -> tuple[dict[Any, Any], dict[Any, bool], list[Any], list[int], list[Any]]:
        """Read the attributes of a node: all, which are data, keys and positions of values, and what else to make."""
        template: dict[Any, Any] = {}
        kinds: dict[Any, bool] = {}
        keys: list[Any] = []
        positions: list[int] = []
        children: list[tuple[Any, Make]] = []
        for _ in range(node.num_attributes):
            key, attribute = next(self.attributes)
            kinds[key] = attribute is NODE or attribute is LEAF or attribute is EMPTY
            template[key] = None if kinds[key] else attribute.value
            if attribute is NODE or attribute is LEAF:
                is_value, found = self.child(attribute)
                if is_value:
                    keys.append(key)
                    positions.append(found)
                else:
                    children.append((key, found))
        return template, kinds, keys, positions, children

    def object(self, node: NodeDef) -> Make:
        cls, number = node.type, cast(int, node.index)
        referred = number in self.referred
        self.met.add(number)
        template, kinds, keys, positions, children = self.read(node)
        shared = SharedKinds(kinds)
        fill, take = _filler(template, keys), _taker(positions)

        def make(leaves: Sequence[Any], trace: object, made: dict[int, Any]) -> Any:
            attributes = fill(take(leaves))
            new = filled_object(cls, attributes, shared, trace)
            if referred:
                made[number] = new  # before its children, which may refer to it
            for key, child in children:
                attributes[key] = child(leaves, trace, made)
            return new

        return make

    def container(self, node: NodeDef) -> Make:
        cls, metadata = node.type, node.metadata
        template, _, keys, positions, children = self.read(node)
        fill, take = _filler(template, keys), _taker(positions)

        def make(leaves: Sequence[Any], trace: object, made: dict[int, Any]) -> Any:
            items = fill(take(leaves))
            for key, child in children:
                items[key] = child(leaves, trace, made)
            if metadata is not None:
                return jax.tree_util.tree_unflatten(metadata, list(items.values()))
            return items if cls is dict else cls(items.values())

        return make


def _filler(template: dict[Any, Any], keys: list[Any]) -> Callable[[Any], dict[Any, Any]]:
    """Give a function that makes a dictionary like the template, with other values for some keys."""
    filled = {key: position for position, key in enumerate(keys)}
    if not filled:
        return lambda values: template.copy()
    if len(template) > _DISPLAY_LIMIT:

        def fill(values: Any) -> dict[Any, Any]:
            made = template.copy()
            made.update(zip(keys, values))
            return made

        return fill
    names = list(template)
    return _display(tuple(filled.get(key) for key in names))(names, [template[key] for key in names])


_DISPLAY_LIMIT = 100


@functools.lru_cache(maxsize=1024)
def _display(positions: tuple[int | None, ...]) -> Callable[[list[Any], list[Any]], Callable[[Any], dict[Any, Any]]]:
    """Write a dictionary display, twice as fast as an update, of names, constants and values by position."""
    names = range(len(positions))
    unpack = "".join(f"k{i}, " for i in names), "".join(f"c{i}, " for i in names)
    items = ", ".join(f"k{i}: c{i}" if at is None else f"k{i}: v{at}" for i, at in enumerate(positions))
    values = "".join(f"v{at}, " for at in range(len(positions) - positions.count(None)))
    text = (
        f"def outer(keys, constants):\n {unpack[0]} = keys\n {unpack[1]} = constants\n"
        f" def inner(values):\n  {values} = values\n  return {{{items}}}\n return inner"
    )
    scope: dict[str, Any] = {}
    exec(text, scope)  # of numbers only
    return scope["outer"]


def _taker(positions: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    """Give a function that takes the values at some positions."""
    if positions and list(positions) == list(range(positions[0], positions[-1] + 1)):
        return itemgetter(slice(positions[0], positions[-1] + 1))
    if len(positions) == 1:
        return itemgetter(slice(positions[0], positions[0] + 1))
    return itemgetter(*positions) if positions else lambda leaves: ()
