"""Making a model of a graph definition and all of its values, fast.

A definition is read once: each object then knows which of the values are its attributes, by their position, and takes
them in one step. `fx_nnx.graph.build` is for several models that refer to each other, and to objects that exist.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, cast

import jax
from fx_core.compat.jax import at_top_level, current_trace

from fx_nnx.captures import frames, note_all
from fx_nnx.errors import unknown_reference
from fx_nnx.graph.definition import EMPTY, LEAF, NODE, GraphDef, NodeDef, NodeRef, VariableDef
from fx_nnx.objects.pytree import Pytree, SharedKinds, filled_object
from fx_nnx.snapshots import Snapshot
from fx_nnx.variables.fields import VariableFields, copied_all, filled
from fx_nnx.variables.variable import Variable
from fx_nnx.variables.writing import is_foreign, own_value

__all__ = ["Assembly", "assembly_of", "value_of"]


value_of = attrgetter("_raw_value")
meta_of = attrgetter("_nnx_meta")


Make = Callable[[Sequence[Any], object, dict[int, Any]], Any]
"""Makes a node, of all the values, the token of the trace, and objects by number."""


class Parts(NamedTuple):
    """What a node holds.

    Attributes:
      template: all attributes or items, with the static ones in their place.
      kinds: which of them are data.
      keys: which of them are values.
      positions: for each of these its position among all values.
      types: for each of these the type of the variable to be made there; None for a value to be taken as it is.
      metas: for each of these the metadata of that variable.
      children: what else is to be made: key, and how.
    """

    template: dict[Any, Any]
    kinds: dict[Any, bool]
    keys: list[Any]
    positions: list[int]
    types: list[Any]
    metas: list[Any]
    children: list[tuple[Any, Make]]


class Assembly:
    """How to make models of a definition.

    Attributes:
      types: for each value the type of its variable, or None for a value without one.
      metas: for each value the metadata of its variable.
      plain: whether all values are in variables, and none of these keeps it in a `jax.Ref`.
    """

    __slots__ = ("_cloning", "_graphdef", "_root", "metas", "plain", "types")

    def __init__(self, graphdef: GraphDef):
        reading = _Reading(graphdef, copying=False)
        self._graphdef = graphdef
        self._root = reading.root()
        self._cloning: tuple[Make, list[int]] | None = None
        self.types: list[Any] = reading.types
        self.metas: list[Any] = reading.metas
        self.plain = None not in self.types and not any(meta["ref"] for meta in self.metas)

    def clone(self, leaves: list[Any]) -> Any:
        """Creates a model of copies of the values of another one that has just this definition.

        Args:
          leaves: the variables and other values, a list that may be changed.
        """
        trace = current_trace()
        if frames or not at_top_level():
            note_all([leaf for leaf in leaves if isinstance(leaf, Variable)])
        if self._cloning is None:
            reading = _Reading(self._graphdef, copying=True)
            root = reading.root()
            self._cloning = root, [position for position, made in enumerate(reading.made) if not made]
        root, taken = self._cloning
        for position in taken:
            leaves[position] = _leaf(self.types[position], leaves[position], self.metas[position], True, trace)
        return root(leaves, trace, {})

    def make(self, leaves: Sequence[Any], *, copy: bool = False, recreate: bool = True) -> Any:
        """Creates a model of its values.

        Args:
          leaves: variables, or bare values for them.
          copy: whether to copy variables.
          recreate: whether to make variables of bare values, instead of putting them in the places of variables.
        """
        if copy and self.fits(leaves):
            return self.clone(list(leaves))
        trace = current_trace()
        kinds = list(map(type, leaves))
        if copy or (recreate and kinds != self.types):
            types = self.types if recreate else [None] * len(leaves)
            if any(map(is_foreign, set(kinds))):
                leaves = [leaf if cls is None else own_value(cls, leaf) for cls, leaf in zip(types, leaves)]
            leaves = [_leaf(*item, copy, trace) for item in zip(types, leaves, self.metas)]
        return self._root(leaves, trace, {})

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Returns whether all values are variables, with the types and the metadata of the definition."""
        return self.plain and list(map(type, leaves)) == self.types and list(map(meta_of, leaves)) == self.metas


def assembly_of(graphdef: GraphDef) -> Assembly:
    """Returns the assembly of a definition, which remembers it."""
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


class _Reading:
    """One reading of a definition.

    Args:
      graphdef: the definition.
      copying: whether variables are made together with what holds them, as copies of the values.

    Attributes:
      types: for each value the type of its variable, or None.
      metas: for each value the metadata of its variable, or None.
      made: for each value whether it is such a variable. Others are taken as they are: what is no variable, variables
        that several nodes hold, and those whose values or types are special.
    """

    def __init__(self, graphdef: GraphDef, *, copying: bool):
        self.nodes, self.attributes = iter(graphdef.nodes), iter(graphdef.attributes)
        self.copying, self.num_leaves = copying, graphdef.num_leaves
        self.types: list[Any] = []
        self.metas: list[Any] = []
        self.made: list[bool] = []
        self.positions: dict[int, int] = {}
        self.met: set[int] = set()
        # Only objects that something refers to have to be found again.
        self.referred = {node.index for node in graphdef.nodes if type(node) is NodeRef}

    def root(self) -> Make:
        """Read all of the definition; one without nodes is that of a value alone."""
        first = next(self.nodes, None)
        if first is not None:
            return self.node(first)
        if not self.num_leaves:
            return lambda leaves, trace, made: None
        position = self.leaf(None, None)
        return lambda leaves, trace, made: leaves[position]

    def leaf(self, cls: type[Any] | None, meta: Any, *, alone: bool = False) -> int:
        """Note a value; ``alone`` if it is a variable that one node holds."""
        self.types.append(cls)
        self.metas.append(meta)
        self.made.append(alone and self.copying and not meta["ref"] and _becomes(cast(Any, cls)))
        return len(self.types) - 1

    def variable(self, node: VariableDef, *, held: bool = True) -> int:
        position = self.leaf(node.type, node.metadata, alone=held and node.index not in self.referred)
        self.positions[node.index] = position
        return position

    def child(self, attribute: Any) -> tuple[bool, Any]:
        """Read an attribute: whether it is a value, and the position of the value or how to make the node."""
        if attribute is LEAF:
            return True, self.leaf(None, None)
        node = next(self.nodes)
        if type(node) is VariableDef:
            return True, self.variable(node)
        if type(node) is NodeRef and node.index in self.positions:
            return True, self.positions[node.index]
        return False, self.node(node)

    def node(self, node: Any) -> Make:
        if type(node) is VariableDef:
            position = self.variable(node, held=False)
            return lambda leaves, trace, made: leaves[position]
        if type(node) is NodeRef:
            if node.index not in self.met:
                raise unknown_reference(node.index)
            return lambda leaves, trace, made: made[node.index]
        if not issubclass(node.type, Pytree):
            return _container_maker(node.type, self.parts(node), node.metadata)
        number = cast(int, node.index)
        self.met.add(number)
        return _object_maker(node.type, self.parts(node), number if number in self.referred else None)

    def parts(self, node: NodeDef) -> Parts:
        """Read the attributes of a node."""
        parts = Parts({}, {}, [], [], [], [], [])
        for _ in range(node.num_attributes):
            key, attribute = next(self.attributes)
            parts.kinds[key] = attribute is NODE or attribute is LEAF or attribute is EMPTY
            parts.template[key] = None if parts.kinds[key] else attribute.value
            if attribute is NODE or attribute is LEAF:
                is_value, found = self.child(attribute)
                if is_value:
                    parts.keys.append(key)
                    parts.positions.append(found)
                    parts.types.append(self.types[found] if self.made[found] else None)
                    parts.metas.append(self.metas[found])
                else:
                    parts.children.append((key, found))
            elif type(parts.template[key]) is Snapshot:
                parts.children.append((key, _thawing(parts.template[key])))
        return parts


def _thawing(snapshot: Snapshot) -> Make:
    return lambda leaves, trace, made: snapshot.thaw()


def _becomes(cls: type[Any]) -> bool:
    """Whether bare fields can become a variable of a class; not if that has attributes in slots of its own."""
    made: Any = VariableFields()
    try:
        made.__class__ = cls
    except TypeError:
        return False
    return True


def _object_maker(cls: type[Any], parts: Parts, number: int | None) -> Make:
    """Give what makes objects of a class; ``number`` is theirs, if others refer to them."""
    kinds, fill, children = SharedKinds(parts.kinds), _filler(parts), parts.children

    def make(leaves: Sequence[Any], trace: object, made: dict[int, Any]) -> Any:
        attributes = fill(leaves, trace)
        new = filled_object(cls, attributes, kinds, trace)
        if number is not None:
            made[number] = new  # before its children, which may refer to it
        for key, child in children:
            attributes[key] = child(leaves, trace, made)
        return new

    return make


def _container_maker(cls: type[Any], parts: Parts, metadata: Any) -> Make:
    """Give what makes plain containers, or other pytrees of what their ``metadata`` says."""
    fill, children = _filler(parts), parts.children

    def make(leaves: Sequence[Any], trace: object, made: dict[int, Any]) -> Any:
        items = fill(leaves, trace)
        for key, child in children:
            items[key] = child(leaves, trace, made)
        if metadata is not None:
            return metadata.make(items)
        return items if cls is dict else cls(items.values())

    return make


def _filler(parts: Parts) -> Callable[[Sequence[Any], object], dict[Any, Any]]:
    """Give a function that makes the dictionary of what a node holds, but for its children."""
    template, keys, types, metas = parts.template, parts.keys, parts.types, parts.metas
    if not keys:
        return lambda leaves, trace: template.copy()
    first, last = parts.positions[0], parts.positions[-1]
    straight = parts.positions == list(range(first, last + 1))
    take = itemgetter(slice(first, last + 1)) if straight else itemgetter(*parts.positions)
    making = any(types)

    def fill(leaves: Sequence[Any], trace: object) -> dict[Any, Any]:
        values = take(leaves)
        made = template.copy()
        made.update(zip(keys, copied_all(types, values, metas, trace) if making else values))
        return made

    return fill
