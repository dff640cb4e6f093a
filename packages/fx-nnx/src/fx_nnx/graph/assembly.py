"""Making models of a graph definition and all of its values.

A definition is read once into parts, one for each object and container, in its order. Each part knows which of the
values it holds, by their positions, and which earlier part holds it; so models are made in one pass.
"""

from collections.abc import Mapping, Sequence
from itertools import compress, islice
from operator import itemgetter
from typing import Any, NamedTuple

import jax
from fx_core.compat.jax import at_top_level, current_trace

from fx_nnx.captures import frames, note_all
from fx_nnx.errors import unknown_reference
from fx_nnx.graph.definition import EMPTY, LEAF, NODE, GraphDef, NodeDef, NodeRef, RefDef, VariableDef
from fx_nnx.graph.merged import MergedRecord, is_known
from fx_nnx.links import announce
from fx_nnx.objects.fields import exchangeable
from fx_nnx.objects.pytree import SharedKinds, attributes_of, filled_object, owned_kinds
from fx_nnx.snapshots import Snapshot, exact, snapshot_of
from fx_nnx.states.nesting import Leaves
from fx_nnx.variables.fields import VariableFields, copied_all, filled
from fx_nnx.variables.variable import Variable
from fx_nnx.variables.writing import boxed, is_foreign, own_value

__all__ = ["Assembly", "assembly_of"]


class Part(NamedTuple):
    """An object or container of a model, or the list of all models.

    Attributes:
      type: its class.
      number: of an object; None for containers.
      holder: the position of the part that holds it.
      key: under which name it does.
      metadata: how other pytrees than lists, tuples and dicts are put together.
      template: all attributes or items, with the static ones in their place.
      kinds: which of them are data.
      keys: which of them are values.
      positions: for each of these its position among all values.
    """

    type: Any
    number: int | None
    holder: int
    key: Any
    metadata: Any
    template: dict[Any, Any]
    kinds: SharedKinds
    keys: list[Any]
    positions: list[int]


class Assembly:
    """How to make models of a definition.

    Attributes:
      types: for each value the type of its variable, or None for a value without one.
      metas: for each value the metadata of its variable.
      bare: for each value without a variable the position of the part that holds it, and under which key.
      plain: whether all values are in variables, and none of these keeps it in a `jax.Ref`.
      announces: whether its models announce all changes but those of values, which are all in variables.
    """

    __slots__ = (
        "_alike",
        "_all_alike",
        "_containers",
        "_graphdef",
        "_known",
        "_later",
        "_parts",
        "_refs",
        "_starts",
        "announces",
        "bare",
        "metas",
        "plain",
        "types",
    )

    def __init__(self, graphdef: GraphDef):
        self._graphdef = graphdef
        self.types: list[Any] = []
        self.metas: list[Any] = []
        self.bare: list[tuple[int, Any]] = []
        # What is put in at last: objects that were met before, by number, and snapshots.
        self._later: list[tuple[int, Any, Any]] = []
        # Numbers of the references that no variable holds, by their positions among all values.
        self._refs: dict[int, int] = {}
        # For each model, and behind the last one, how many parts, entries of `_later`, and values come before it.
        self._starts: list[tuple[int, int, int]] = []
        self._parts: list[tuple[Any, ...]] = []
        self._containers: list[tuple[Any, ...]] = []
        for at, part in enumerate(self._read(graphdef)):
            first, last = (part.positions[0], part.positions[-1] + 1) if part.positions else (0, 0)
            straight = part.positions == list(range(first, last))
            take = itemgetter(slice(first, last)) if straight else itemgetter(*part.positions)
            self._parts.append((*part[:4], part.template, part.kinds, part.keys, take))
            if at and part.number is None:
                self._containers.insert(0, (at, part.type, part.holder, part.key, part.metadata))
        # Which values are in variables that bare fields can become.
        self._alike: list[bool] | None = None
        self._all_alike = False
        self._known: bool | None = None
        self.plain = not self.bare and not any(meta.ref for meta in self.metas)
        silent = self.bare or self._containers or any(type(item) is Snapshot for _, _, item in self._later)
        self.announces = not silent and not any(meta.changing for meta in self.metas)

    def _read(self, graphdef: GraphDef) -> list[Part]:
        nodes, attributes, positions = iter(graphdef.nodes), iter(graphdef.attributes), {}
        parts = [Part(list, None, 0, None, None, {}, SharedKinds(), [], [])]
        alone = NODE if graphdef.nodes else LEAF if graphdef.num_leaves else EMPTY
        unread: list[tuple[int, Any]] = [(0, iter([(root, alone) for root in range(graphdef.roots)]))]
        while unread:
            at, rest = unread[-1]
            if at == 0:
                self._starts.append((len(parts), len(self._later), len(self.types)))
            key, attribute = next(rest, (None, None))
            if attribute is None:
                unread.pop()
                continue
            part = parts[at]
            part.kinds[key] = attribute is NODE or attribute is LEAF or attribute is EMPTY
            part.template[key] = static = None if part.kinds[key] else attribute.value
            node = next(nodes) if attribute is NODE else None
            if type(node) is NodeDef:
                unread.append((len(parts), islice(attributes, node.num_attributes)))
                parts.append(Part(node.type, node.index, at, key, node.metadata, {}, SharedKinds(), [], []))
            elif type(node) is NodeRef and node.index not in positions:
                self._later.append((at, key, node.index))
            elif type(static) is Snapshot:
                self._later.append((at, key, static))
            elif attribute is NODE or attribute is LEAF:
                part.keys.append(key)
                if type(node) is NodeRef:
                    part.positions.append(positions[node.index])
                    continue
                part.positions.append(len(self.types))
                if type(node) is VariableDef:
                    positions[node.index] = len(self.types)
                    self.types.append(node.type)
                    self.metas.append(node.metadata)
                else:
                    if type(node) is RefDef:
                        positions[node.index] = len(self.types)
                        self._refs[len(self.types)] = node.index
                    self.bare.append((at, key))
                    self.types.append(None)
                    self.metas.append(None)
        return parts

    def build(
        self,
        leaves: Sequence[Any],
        index: dict[int, Any],
        *,
        known: Mapping[int, Any] | None = None,
        skip: int = 0,
        links: Any = None,
    ) -> tuple[list[Any], list[Any]]:
        """Creates models of variables and other leaves, which they hold as they are.

        Args:
          leaves: the leaves; for variables that `known` has, these.
          index: objects by number that the definition may refer to; it gets the new ones.
          known: objects by number that exist; they are changed to what the definition says.
          skip: how many models, the first ones, are not to be made.
          links: what new objects are linked to, see `fx_nnx.links`.

        Returns:
          The models, and for each part what holds its values: the attributes of an object, or a container.
        """
        trace = current_trace()
        first, first_later, _ = self._starts[skip]
        held: list[Any] = [None] * len(self._parts)
        changed: list[tuple[Any, dict[Any, Any], dict[Any, bool]]] = []
        *_, template, _, keys, take = self._parts[0]
        held[0] = roots = template.copy()
        if keys:
            roots.update(zip(keys, take(leaves)))
        for at, (cls, number, holder, key, template, kinds, keys, take) in enumerate(self._parts[first:], first):
            held[at] = attributes = template.copy()
            if keys:
                attributes.update(zip(keys, take(leaves)))
            if number is None:
                continue
            if known is not None and number in known:
                node = known[number]
                changed.append((node, attributes, kinds))
            else:
                node = index[number] = filled_object(cls, attributes, kinds, trace, links)
            held[holder][key] = node
        for position, number in self._refs.items():
            index.setdefault(number, leaves[position])
        for at, key, item in self._later[first_later:]:
            if type(item) is Snapshot:
                held[at][key] = item.thaw()
            elif item in index:
                held[at][key] = index[item]
            else:
                raise unknown_reference(item)
        for at, cls, holder, key, metadata in self._containers:
            items = held[at]
            if items is not None:
                made = items if cls is dict else cls(items.values()) if metadata is None else metadata.make(items)
                held[at] = held[holder][key] = made
        for node, attributes, kinds in changed:
            _change(node, attributes, kinds)
        return list(roots.values())[skip:], held

    def _model(self, leaves: Sequence[Any]) -> Any:
        """Create the one model of leaves, variables where those of the definition are. Most often it knows its
        structure then.
        """
        if self._known is None:
            self._known = self.plain and self.announces and is_known(self._graphdef)
        if not self._known:
            return self.build(leaves, {})[0][0]
        record = MergedRecord(self._graphdef, leaves, self.fits)
        model = self.build(leaves, {}, links=record.links)[0][0]
        record.keep(model)
        return model

    def models(self, values: Sequence[Any]) -> list[Any]:
        """Returns new models with the values."""
        return self.build(self.variables(values), {})[0]

    def variables(self, values: Sequence[Any], links: Any = None) -> list[Any]:
        """Returns new variables with the values; values that belong into no variable are themselves leaves."""
        trace = current_trace()
        return [
            value if cls is None else filled(cls, value, meta, trace, links)
            for cls, value, meta in zip(self.types, values, self.metas)
        ]

    def renew(self, values: Sequence[Any], known: Mapping[int, Any], skip: int = 0) -> list[Any]:
        """Creates models out of objects that exist, where there are any.

        Args:
          values: the values of what is new, in their order: of variables that do not exist, and of attributes.
          known: objects and variables that exist, by number; they are changed to what the definition says.
          skip: how many models, the first ones, are not to be made, since they are as the definition says.
        """
        trace, given, first = current_trace(), iter(values), self._starts[skip][2]
        leaves: list[Any] = []
        for position, (cls, meta, number) in enumerate(zip(self.types, self.metas, self._graphdef.numbers)):
            found = None if number is None else known.get(number)
            if found is not None:
                if found._nnx_meta is not meta and found._nnx_meta != meta:
                    found._nnx_check_trace()
                    found._nnx_set_meta(meta)
                leaves.append(found)
            elif position < first:
                leaves.append(known.get(self._refs[position]) if position in self._refs else None)
            else:
                value = next(given)
                leaves.append(value if cls is None else filled(cls, boxed(cls, value, meta), meta, trace))
        return self.build(leaves, dict(known), known=known, skip=skip)[0]

    def clone(self, leaves: list[Any]) -> Any:
        """Creates a model of copies of the values of another one that has just this definition.

        Args:
          leaves: the variables and other values.
        """
        if frames or not at_top_level():
            note_all([leaf for leaf in leaves if isinstance(leaf, Variable)])
        trace = current_trace()
        if self._alike is None:
            pairs = zip(self.types, self.metas)
            self._alike = [cls is not None and not meta.ref and _becomes(cls) for cls, meta in pairs]
            self._all_alike = all(self._alike)
        if self._all_alike:
            return self._model(copied_all(self.types, leaves, self.metas, trace))
        types, sources, metas = (list(compress(part, self._alike)) for part in (self.types, leaves, self.metas))
        made = iter(copied_all(types, sources, metas, trace))
        pairs = zip(self._alike, leaves)
        copies = [next(made) if same else leaf.copy() if isinstance(leaf, Variable) else leaf for same, leaf in pairs]
        return self._model(copies)

    def make(
        self,
        leaves: Sequence[Any],
        *,
        copy: bool = False,
        recreate: bool = True,
    ) -> Any:
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
        return self._model(leaves) if recreate else self.build(leaves, {})[0][0]

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Returns whether all values are variables, with the types and the metadata of the definition."""
        return list(map(type, leaves)) == self.types and self.has_metadata(leaves)

    def has_metadata(self, variables: Sequence[Any]) -> bool:
        """Returns whether all values are in variables that have the metadata of the definition.

        Raises:
          AttributeError: something among them is no variable.
        """
        if not self.plain:
            return False
        if type(variables) is Leaves and variables.record.is_true():
            known = variables.record.graphdef._assembly
            if known is not None:  # which spares a quarter of the time of `fx_nnx.update`
                return known.metas == self.metas
        return [variable._nnx_meta for variable in variables] == self.metas


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
    boxed = jax.new_ref(leaf) if meta.ref and not isinstance(leaf, jax.Ref) else leaf
    return filled(cls, boxed, meta, trace)


def _becomes(cls: type[Any]) -> bool:
    """Whether bare fields can become a variable of a class; not if that has attributes in slots of its own."""
    made: Any = VariableFields()
    try:
        made.__class__ = cls
    except TypeError:
        return False
    return True


def _change(found: Any, new: dict[Any, Any], kinds: dict[Any, bool]) -> None:
    """Give an object other attributes, with one announcement if that changes its structure."""
    old = attributes_of(found)
    changed = [key for key in new if key not in old or not _same(old[key], new[key], kinds[key])]
    gone = [key for key in old if key not in new]
    if not changed and not gone and found._nnx_kinds == kinds:
        return
    found._nnx_check_trace()
    for key in gone:
        del old[key]
    structural = found._nnx_kinds != kinds or not all(exchangeable(old.get(k), new[k]) for k in changed)
    old.update({key: new[key] for key in changed})
    owned = owned_kinds(found)
    owned.clear()
    owned.update(kinds)
    if structural:
        announce(found)


def _same(old: Any, new: Any, is_data: bool) -> bool:
    # What holds data is the same if it is the same object; comparing variables would compare their values.
    if old is new or is_data or type(old) is not type(new):
        return old is new
    before, after = snapshot_of(old), snapshot_of(new)
    return exact(before) == exact(after) and bool(before == after)
