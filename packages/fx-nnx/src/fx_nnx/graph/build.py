"""Making models that refer to each other and to objects that exist; `fx_nnx.graph.assembly` makes one, faster."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fx_core.compat.jax import current_trace

from fx_nnx.errors import unknown_reference
from fx_nnx.graph.definition import EMPTY, LEAF, NODE, NodeDef, NodeRef, Static, VariableDef
from fx_nnx.objects.pytree import Pytree, attributes_of, new_object, owned_kinds
from fx_nnx.snapshots import Snapshot, thawed
from fx_nnx.variables.variable import Variable, new_variable

__all__ = ["Builder", "ContainerPlan", "ObjectPlan", "build_plan"]


class ObjectPlan(NamedTuple):
    """An object: its static attributes and kinds, ready to be copied, and how to make its other attributes."""

    type: type
    index: int
    statics: dict[Any, Any]
    kinds: dict[Any, bool]
    children: tuple[tuple[Any, Any], ...]


class ContainerPlan(NamedTuple):
    """A plain container or another pytree."""

    type: type
    metadata: Any
    children: tuple[tuple[Any, Any], ...]


class Builder:
    """Makes models.

    Attributes:
      index: the objects and variables made, by number.
      slots: for each value that is in no variable, in their order, what holds it and under which key.
    """

    def __init__(self, leaves: Iterator[Any], copy: bool, known: Mapping[int, Any] | None):
        self.leaves, self.copy = leaves, copy
        self.slots: list[tuple[Any, Any]] = []
        self.index: dict[int, Any] = dict(known or {})
        self.trace = current_trace()

    def make(self, plan: Any) -> Any:
        """Builds what a plan stands for."""
        kind = type(plan)
        if kind is VariableDef:
            return self.variable(plan)
        if kind is ObjectPlan:
            return self.object(plan)
        if kind is NodeRef:
            if plan.index not in self.index:
                raise unknown_reference(plan.index)
            return self.index[plan.index]
        return self.container(plan)

    def variable(self, plan: VariableDef) -> Any:
        """Builds a variable from the next leaf."""
        leaf = next(self.leaves)
        if not isinstance(leaf, Variable):
            leaf = new_variable(plan.type, leaf, plan.metadata, self.trace)
        elif self.copy:
            leaf = leaf.copy()
        self.index[plan.index] = leaf
        return leaf

    def object(self, plan: ObjectPlan) -> Any:
        """Builds an object and what its attributes hold."""
        made = new_object(plan.type, self.trace)
        self.index[plan.index] = made
        attributes = attributes_of(made)
        owned_kinds(made).update(plan.kinds)
        attributes.update(plan.statics)
        for key, child in plan.children:
            if child is LEAF:
                self.slots.append((attributes, key))
            attributes[key] = self.item(child)
        return made

    def item(self, child: Any) -> Any:
        """Builds a child: a leaf, a static value, or what a plan stands for."""
        if child is LEAF:
            return next(self.leaves)
        return thawed(child.value) if type(child) is Static else self.make(child)

    def container(self, plan: ContainerPlan) -> Any:
        """Builds a list, a tuple, a dict or a registered node."""
        children: list[Any] = []
        mine: list[tuple[int, Any]] = []
        for key, child in plan.children:
            if child is LEAF:
                mine.append((len(self.slots), key))
                self.slots.append((None, key))
            children.append(self.item(child))
        made = self.filled(plan, children)
        for position, key in mine:
            self.slots[position] = made, key
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
    kinds: dict[Any, bool] = {}
    children: list[tuple[Any, Any]] = []
    is_object = issubclass(node.type, Pytree)
    for _ in range(node.num_attributes):
        key, attribute = next(attributes)
        kinds[key] = attribute is NODE or attribute is LEAF or attribute is EMPTY
        if attribute is NODE:
            children.append((key, build_plan(nodes, attributes)))
        elif attribute is LEAF:
            children.append((key, LEAF))
        elif is_object and not (type(attribute) is Static and type(attribute.value) is Snapshot):
            statics[key] = None if attribute is EMPTY else attribute.value
        else:
            children.append((key, Static(None, None) if attribute is EMPTY else attribute))
    if node.index is not None:
        return ObjectPlan(node.type, node.index, statics, kinds, tuple(children))
    return ContainerPlan(node.type, node.metadata, tuple(children))
