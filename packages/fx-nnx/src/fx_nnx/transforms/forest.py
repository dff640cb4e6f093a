"""The structure of several roots with one table of references: what a tree of arguments is made of."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fx_core.errors import ArgumentTypeError

from fx_nnx.errors import unhashable_static
from fx_nnx.graph.build import Builder, build_plan
from fx_nnx.graph.definition import NODE, NodeDef, Static, VariableDef, odd_keys
from fx_nnx.graph.record import Record, Walk
from fx_nnx.links import structure_lock
from fx_nnx.objects.pytree import Pytree
from fx_nnx.snapshots import Snapshot
from fx_nnx.variables.variable import Variable

__all__ = ["Forest", "ForestWalk", "is_node", "make_roots"]


_nodes: dict[type, bool] = {}


def is_node(x: Any) -> bool:
    """Returns whether a value is an object or a variable, which have an identity."""
    cls = type(x)
    found = _nodes.get(cls)
    if found is None:
        found = _nodes[cls] = issubclass(cls, Pytree | Variable)
    return found


class Forest:
    """Graph definitions of roots that may refer to each other.

    Args:
      nodes: as in `fx_nnx.GraphDef`, those of one root after those of another.
      attributes: as in `fx_nnx.GraphDef`.
      numbers: for each value the number of the variable that holds it, or None where an attribute holds it.
      roots: how many roots there are.
    """

    __slots__ = ("_announces", "_hash", "_plans", "attributes", "nodes", "numbers", "roots")

    def __init__(
        self,
        nodes: Sequence[Any],
        attributes: Sequence[tuple[Any, Any]],
        numbers: Sequence[int | None],
        roots: int,
    ):
        self.nodes, self.attributes, self.numbers = tuple(nodes), tuple(attributes), tuple(numbers)
        self.roots = roots
        self._hash: int | None = None
        self._plans: list[Any] | None = None
        self._announces: bool | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not Forest:
            return NotImplemented
        return (
            hash(self) == hash(other)
            and self.nodes == other.nodes
            and self.attributes == other.attributes
            and odd_keys(self.attributes) == odd_keys(other.attributes)
        )

    def __hash__(self) -> int:
        if self._hash is None:
            try:
                self._hash = hash((self.nodes, self.attributes))
            except TypeError:
                raise self._unhashable() from None
        return self._hash

    @property
    def plans(self) -> list[Any]:
        """For each root how to make it."""
        if self._plans is None:
            nodes, attributes = iter(self.nodes), iter(self.attributes)
            self._plans = [build_plan(nodes, attributes) for _ in range(self.roots)]
        return self._plans

    @property
    def announces(self) -> bool:
        """Whether objects made of it announce all changes but those of values, which are all in variables."""
        if self._announces is None:
            plain = any(type(node) is NodeDef and node.index is None for node in self.nodes)
            silent = any(type(item) is Static and type(item.value) is Snapshot for _, item in self.attributes)
            silent = silent or any(type(node) is VariableDef and node.metadata.changing for node in self.nodes)
            self._announces = not plain and not silent and None not in self.numbers
        return self._announces

    def _unhashable(self) -> ArgumentTypeError:
        for path, value in self._statics():
            try:
                hash(value)
            except TypeError:
                return unhashable_static(path, value)
        return unhashable_static((), self)

    def _statics(self) -> Iterator[tuple[tuple[Any, ...], Any]]:
        nodes, attributes = iter(self.nodes), iter(self.attributes)

        def visit(path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
            node = next(nodes)
            if type(node) is VariableDef:
                yield path, node.metadata
            elif type(node) is NodeDef:
                for _ in range(node.num_attributes):
                    key, attribute = next(attributes)
                    if attribute is NODE:
                        yield from visit((*path, key))
                    elif type(attribute) is Static:
                        yield (*path, key), attribute.value

        for _ in range(self.roots):
            yield from visit(())


class ForestWalk(Walk):
    """Finds out the structure of roots, one after the other.

    Attributes:
      objects: the objects and variables by their number.
      numbers: as in `Forest`.
    """

    def __init__(self, *, shared: bool = True):
        super().__init__(Record(None), shared=shared)
        self.roots = 0

    def root(self, value: Any, path: tuple[Any, ...]) -> None:
        """Looks at one more root."""
        self.roots += 1
        with structure_lock:
            self.visit(value, path)

    def forest(self) -> Forest:
        """Returns what was found."""
        index = self.index
        return Forest(self.nodes, self.attributes, [index.get(id(leaf)) for leaf in self.leaves], self.roots)


class Made(NamedTuple):
    """What was made of a forest.

    Attributes:
      roots: its roots.
      index: their objects and variables by number.
      slots: for each value that no variable holds, what holds it and under which key.
    """

    roots: list[Any]
    index: dict[int, Any]
    slots: list[tuple[Any, Any]]


def make_roots(forest: Forest, values: Sequence[Any]) -> Made:
    """Creates the roots of a forest from values."""
    builder = Builder(iter(values), False, None)
    return Made([builder.make(plan) for plan in forest.plans], builder.index, builder.slots)
