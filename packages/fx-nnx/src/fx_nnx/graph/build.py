"""Making models that refer to each other and to objects that exist; `fx_nnx.graph.assembly` makes one, faster."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from fx_core.compat.jax import current_trace

from fx_nnx.errors import unknown_reference
from fx_nnx.graph.definition import EMPTY, LEAF, NODE, GraphDef, NodeDef, NodeRef, StaticValue, VariableDef
from fx_nnx.objects.pytree import Pytree, SharedKinds, filled_object
from fx_nnx.snapshots import Snapshot, thawed
from fx_nnx.variables.fields import filled

__all__ = ["Builder", "ContainerPlan", "ObjectPlan"]


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
