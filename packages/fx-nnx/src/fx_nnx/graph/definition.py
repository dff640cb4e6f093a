"""Graph definitions: the structure of a model without its values, hashable, so that JAX can cache by it."""

import functools
import itertools
import types
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
from fx_core.errors import ArgumentTypeError

from fx_nnx.errors import unhashable_static
from fx_nnx.paths import Path
from fx_nnx.representation import Representable
from fx_nnx.snapshots import exact
from fx_nnx.states.nesting import Paths

__all__ = ["EMPTY", "LEAF", "NODE", "GraphDef", "NodeDef", "NodeRef", "RefDef", "StaticValue", "VariableDef"]


class NodeDef(NamedTuple):
    """An object or container.

    Attributes:
      type: its class.
      index: its number among what can be shared; None for plain containers.
      num_attributes: how many of the attributes of the definition are its own.
      metadata: what else is needed to make it: keys or tree definition of a container.
    """

    type: type
    index: int | None
    num_attributes: int
    metadata: Any


class VariableDef(NamedTuple):
    """A variable: its class, its number and its metadata."""

    type: type
    index: int
    metadata: Any


class RefDef(NamedTuple):
    """A `jax.Ref` that no variable holds, by its number. Its leaf is the reference itself."""

    index: int


class NodeRef(NamedTuple):
    """An object, variable or `jax.Ref` that was met before, by its number."""

    index: int


class StaticValue(NamedTuple):
    """The value of a static attribute.

    Attributes:
      exact: what distinguishes the value from equal ones that are not the same, such as 1 from 1.0. It comes first, so
        that values of different types are not compared, which those of NumPy are not made for.
      value: the value, or a snapshot of it.
    """

    exact: Any
    value: Any

    @classmethod
    def of(cls, value: Any) -> "StaticValue":
        """Creates one."""
        return cls(exact(value), value)

    def __reduce__(self) -> tuple[Any, ...]:
        return StaticValue.of, (self.value,)  # the rest may have types that do not pickle


class _Marker:
    """A thing that is only equal to itself, in every process."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name


NODE = _Marker("NODE")
"""The attribute is a node, a variable, a `jax.Ref`, or one of these again: the next of the nodes."""
LEAF = _Marker("LEAF")
"""The attribute is an array or another value of a state."""
EMPTY = _Marker("EMPTY")
"""The attribute is declared as data, but None."""


def _nothing() -> None:
    """Stands for a weak reference to what is gone."""


class GraphDef(Representable):
    """The structure of a model, as `fx_nnx.split` gives it, or of several that may refer to each other.

    Nodes and attributes are in the order of a walk through the model, in which every node is followed by what its
    attributes hold, and attributes are sorted by name. Equal definitions have equal hashes; a definition goes into and
    out of JAX transforms as a pytree without leaves.

    Args:
      nodes: `NodeDef`, `VariableDef`, `RefDef` and `NodeRef`.
      attributes: pairs of a name and `StaticValue`, `NODE`, `LEAF` or `EMPTY`.
      num_leaves: how many values belong to it.
      outer: pairs of the number of a node and its number in another structure, see `fx_nnx.update_context`.
      roots: how many models it is the structure of, the nodes of one after those of another.

    >>> import fx_nnx as nnx
    >>> graphdef, state = nnx.split(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> graphdef == nnx.graphdef(nnx.Linear(2, 3, rngs=nnx.Rngs(1)))  # the structure has no values
    True
    >>> graphdef.num_leaves
    2
    """

    apply: ClassVar[Any]
    __class_getitem__ = classmethod(types.GenericAlias)

    def __init__(
        self,
        nodes: Sequence[Any],
        attributes: Sequence[tuple[Any, Any]],
        num_leaves: int,
        outer: Sequence[tuple[int, int]] = (),
        roots: int = 1,
    ):
        self.nodes = tuple(nodes)
        self.attributes = tuple(attributes)
        self.num_leaves = num_leaves
        self.outer = tuple(outer)
        self.roots = roots
        self._hash: int | None = None
        self._assembly: Any = None
        self._same_paths: Any = None
        self._record: Any = None  # a weak reference to what is known of the model that it was taken from
        self._equal: Any = _nothing  # the same to the last definition that was found to be equal

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not GraphDef:
            return NotImplemented
        # JAX asks at each call of a function that was compiled for a model before its modes went there and back: for a
        # train step of 8 layers 50 of 330 us.
        if self._equal() is other or other._equal() is self:
            return True
        if hash(self) != hash(other) or self.outer != other.outer:
            return False
        same = (
            self.nodes == other.nodes
            and self.attributes == other.attributes
            and odd_keys(self.attributes) == odd_keys(other.attributes)
        )
        if same:
            self._equal, other._equal = weakref.ref(other), weakref.ref(self)
        return same

    def __hash__(self) -> int:
        if self._hash is None:
            try:
                self._hash = hash((self.nodes, self.attributes))
            except TypeError:
                raise self._unhashable() from None
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return GraphDef, (self.nodes, self.attributes, self.num_leaves, self.outer, self.roots)

    def _show(self) -> str:
        kinds = [node.type.__name__ for node in self.nodes if type(node) is NodeDef]
        return f"GraphDef({kinds[0] if kinds else 'leaf'}, nodes={len(self.nodes)}, leaves={self.num_leaves})"

    # Who has walked through a model knows these two, and sets them.

    @functools.cached_property
    def paths(self) -> list[Path]:
        """The path of each leaf, in order."""
        return Paths(path for path, kind, _ in walk(self) if kind is LEAF)

    @functools.cached_property
    def numbers(self) -> list[int | None]:
        """For each leaf the number of the variable that holds it, None where an attribute or an item holds it."""
        holders = [value for _, kind, value in walk(self) if kind is LEAF]
        return [None if holder is None else holder.index for holder in holders]

    def leaves_of(self, state: Any) -> Sequence[Any] | None:
        """Returns the leaves of a `State` if it has them at the paths of this structure, and None otherwise."""
        own = self.paths
        if state._flat is None and type(own) is Paths:
            found = own.leaves_of(state.raw_mapping)
            if found is not None:
                return found
        paths, leaves = state._pairs()
        if paths is not own and paths is not self._same_paths:
            if paths != own:
                return None
            self._same_paths = paths  # the last ones that were the same are remembered
        return leaves

    def with_no_outer_index(self) -> "GraphDef":
        """Returns the same structure, without reference to another one."""
        return self._with_outer(())

    def with_same_outer_index(self) -> "GraphDef":
        """Returns the same structure, whose nodes have the same numbers in the other one."""
        return self._with_outer([(number, number) for number in self._nodes()])

    def with_matching_outer_index(self, other: "GraphDef") -> "GraphDef":
        """Returns the same structure, whose nodes have the numbers in another structure that the nodes of ``other``
        have.
        """
        known = dict(other.outer)
        return self._with_outer([(number, known[number]) for number in self._nodes() if number in known])

    def _nodes(self) -> list[int]:
        return [n.index for n in self.nodes if type(n) in (NodeDef, VariableDef) and n.index is not None]

    def _with_outer(self, outer: Sequence[tuple[int, int]]) -> "GraphDef":
        return GraphDef(self.nodes, self.attributes, self.num_leaves, outer, self.roots)

    def _unhashable(self) -> ArgumentTypeError:
        for path, kind, value in walk(self):
            if kind is not LEAF:
                try:
                    hash(value)
                except TypeError:
                    return unhashable_static(path, value)
        return unhashable_static((), self)


def odd_keys(attributes: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Returns what distinguishes keys that are equal but not the same, such as 1 and True in a dict; names are not."""
    return [exact(key) for key, _ in attributes if type(key) is not str]


def walk(graphdef: GraphDef) -> Iterator[tuple[Path, Any, Any]]:
    """Returns path, kind and value of each static attribute and of each leaf (`LEAF`), and metadata of variables."""
    nodes, attributes = iter(graphdef.nodes), iter(graphdef.attributes)
    if not graphdef.nodes:  # a value alone, or nothing
        return iter([((), LEAF, None)] * graphdef.roots)

    def visit(path: Path) -> Iterator[tuple[Path, Any, Any]]:
        node = next(nodes)
        if type(node) is VariableDef:
            yield path, VariableDef, node.metadata
            yield path, LEAF, node
        elif type(node) is RefDef:
            yield path, LEAF, None
        elif type(node) is NodeDef:
            for _ in range(node.num_attributes):
                key, attribute = next(attributes)
                here = (*path, key)
                if attribute is NODE:
                    yield from visit(here)
                elif attribute is LEAF:
                    yield here, LEAF, None
                elif type(attribute) is StaticValue:
                    yield here, StaticValue, attribute.value

    return itertools.chain.from_iterable(visit(()) for _ in range(graphdef.roots))


jax.tree_util.register_static(GraphDef)
