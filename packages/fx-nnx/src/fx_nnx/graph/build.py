"""Making models that refer to each other and to objects that exist; `fx_nnx.graph.assembly` makes one, faster."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fx_core.compat.jax import current_trace

from fx_nnx.errors import unknown_reference
from fx_nnx.graph.definition import EMPTY, LEAF, NODE, GraphDef, NodeDef, NodeRef, StaticValue, VariableDef
from fx_nnx.links import announce
from fx_nnx.objects.fields import is_array
from fx_nnx.objects.pytree import Pytree, SharedKinds, attributes_of, filled_object, owned_kinds
from fx_nnx.snapshots import Snapshot, exact, snapshot_of, thawed
from fx_nnx.variables.fields import filled
from fx_nnx.variables.writing import boxed

__all__ = ["Builder", "ContainerPlan", "ObjectPlan", "Renewal"]


class ObjectPlan(NamedTuple):
    """An object: its static attributes and kinds, ready to be copied, and how to make its other attributes."""

    type: type
    index: int
    statics: dict[Any, Any]
    kinds: SharedKinds
    children: tuple[tuple[Any, Any], ...]


class ContainerPlan(NamedTuple):
    """A plain container or another pytree."""

    type: type
    metadata: Any
    children: tuple[tuple[Any, Any], ...]


class Builder:
    """Makes models.

    Args:
      values: the values of variables and of attributes, in their order.

    Attributes:
      index: the objects and variables made, by number.
      items: for each value that is in no variable, in their order, what holds it and under which key.
    """

    def __init__(self, values: Iterable[Any]):
        self.values = iter(values)
        self.items: list[tuple[Any, Any]] = []
        self.index: dict[int, Any] = {}
        self.trace = current_trace()

    def roots(self, graphdef: GraphDef, skip: int = 0) -> list[Any]:
        """Builds the models of a structure, without the first ones that are to be skipped."""
        plans = graphdef._plans
        if plans is None:
            nodes, attributes = iter(graphdef.nodes), iter(graphdef.attributes)
            plans = graphdef._plans = [build_plan(nodes, attributes) for _ in range(graphdef.roots)]
        return [self.make(plan) for plan in plans[skip:]]

    def make(self, plan: Any) -> Any:
        """Builds what a plan stands for, or returns the next value."""
        if plan is LEAF:
            return next(self.values)
        kind = type(plan)
        if kind is VariableDef:
            return self.variable(plan)
        if kind is ObjectPlan:
            return self.object(plan)
        if kind is NodeRef:
            if plan.index not in self.index:
                raise unknown_reference(plan.index)
            return self.index[plan.index]
        return thawed(plan.value) if kind is StaticValue else self.container(plan)

    def variable(self, plan: VariableDef) -> Any:
        """Builds a variable of the next value."""
        made = self.index[plan.index] = filled(plan.type, next(self.values), plan.metadata, self.trace)
        return made

    def object(self, plan: ObjectPlan) -> Any:
        """Builds an object and what its attributes hold."""
        attributes = plan.statics.copy()
        made = self.index[plan.index] = filled_object(plan.type, attributes, plan.kinds, self.trace)
        for key, child in plan.children:
            if child is LEAF:
                self.items.append((attributes, key))
            attributes[key] = self.make(child)
        return made

    def container(self, plan: ContainerPlan) -> Any:
        """Builds a list, a tuple, a dict or a registered node."""
        children: list[Any] = []
        mine: list[tuple[int, Any]] = []
        for key, child in plan.children:
            if child is LEAF:
                mine.append((len(self.items), key))
                self.items.append((None, key))
            children.append(self.make(child))
        made = self.filled(plan, children)
        for position, key in mine:
            self.items[position] = made, key
        return made

    def filled(self, plan: ContainerPlan, children: list[Any]) -> Any:
        """Returns a container of what is in it."""
        if plan.metadata is not None:
            return plan.metadata.make({key: child for (key, _), child in zip(plan.children, children)})
        if plan.type is dict:
            return {key: child for (key, _), child in zip(plan.children, children)}
        return plan.type(children)


def build_plan(nodes: Iterator[Any], attributes: Iterator[tuple[Any, Any]]) -> Any:
    """Reads a definition once, so that each building is fast."""
    node = next(nodes)
    if type(node) is not NodeDef:
        return node
    statics: dict[Any, Any] = {}
    kinds = SharedKinds()
    children: list[tuple[Any, Any]] = []
    is_object = issubclass(node.type, Pytree)
    for _ in range(node.num_attributes):
        key, attribute = next(attributes)
        kinds[key] = attribute is NODE or attribute is LEAF or attribute is EMPTY
        if attribute is NODE:
            children.append((key, build_plan(nodes, attributes)))
        elif attribute is LEAF:
            children.append((key, LEAF))
        elif is_object and not (type(attribute) is StaticValue and type(attribute.value) is Snapshot):
            statics[key] = None if attribute is EMPTY else attribute.value
        else:
            children.append((key, StaticValue(None, None) if attribute is EMPTY else attribute))
    if node.index is not None:
        return ObjectPlan(node.type, node.index, statics, kinds, tuple(children))
    return ContainerPlan(node.type, node.metadata, tuple(children))


class Renewal(Builder):
    """Makes objects out of ones that exist, where there are any.

    Args:
      values: the values of what is new: of variables that do not exist, and of attributes.
      known: objects and variables that exist, by number; objects are changed to what the structure says.
    """

    def __init__(self, values: Iterable[Any], known: Mapping[int, Any]):
        super().__init__(values)
        self.known = known
        self.index.update(known)

    def variable(self, plan: VariableDef) -> Any:
        """Returns a variable."""
        found = self.known.get(plan.index)
        if found is None:
            value = boxed(plan.type, next(self.values), plan.metadata)
            found = self.index[plan.index] = filled(plan.type, value, plan.metadata, self.trace)
        elif found._nnx_meta is not plan.metadata and found._nnx_meta != plan.metadata:
            found._nnx_check_trace()
            found._nnx_set_meta(plan.metadata)
        return found

    def object(self, plan: ObjectPlan) -> Any:
        """Returns an object."""
        found = self.known.get(plan.index)
        if found is None:
            return super().object(plan)
        new = dict(plan.statics)
        for key, child in plan.children:
            new[key] = self.make(child)
        _change(found, new, plan.kinds)
        return found


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
    structural = found._nnx_kinds != kinds or not all(is_array(old.get(k)) and is_array(new[k]) for k in changed)
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
