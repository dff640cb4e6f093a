"""Layouts: the hashable part of a tree of arguments, and handles: the tree on its way through a transform."""

import functools
import operator
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from fx_core.compat.jax import at_top_level
from fx_transforms.carrier import Static

from fx_nnx.captures import frames, note
from fx_nnx.graph.assembly import assembly_of
from fx_nnx.graph.children import Item
from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.kinds import is_node
from fx_nnx.graph.record import Walk
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.paths import RootName, show_path
from fx_nnx.snapshots import exact
from fx_nnx.variables.variable import Variable

__all__ = ["Group", "Handle", "Inner", "Layout", "read_value"]


class Layout(Static):
    """The shape of a tree of arguments: what is known of it without its values.

    Values are numbered: first those of the objects and variables, in the order of a walk, then the arrays of the tree.

    Args:
      graphdef: structure of the objects and variables.
      treedef: of the tree, in which they are leaves, like arrays.
      nodes: for each leaf of the tree whether it is one.
      groups: for each value the number of its group.
      statics: further static data to compile for.
      names: names of the leaves of the tree.
      paths: where the values are, for messages; not compared.
    """

    __slots__ = ("_dealt", "graphdef", "groups", "nodes", "paths", "roots", "statics", "treedef")

    def __init__(
        self,
        graphdef: GraphDef,
        treedef: Any,
        nodes: tuple[bool, ...],
        groups: tuple[int, ...],
        statics: Any,
        names: Sequence[RootName],
        paths: Sequence[Any],
    ):
        # Keys of dicts in the tree may be equal but not the same, such as 1 and True.
        odd = tuple(map(exact, odd_keys_of(names)))
        super().__init__((graphdef, treedef, nodes, groups, statics, odd))
        self.graphdef, self.treedef, self.nodes, self.groups, self.statics = graphdef, treedef, nodes, groups, statics
        self.roots, self.paths = [name for name, node in zip(names, nodes) if node], paths
        self._dealt: list[tuple[list[int], Static]] | None = None

    def __eq__(self, other: object) -> bool:
        # Hashes first: static arguments that differ may not be fit to be compared, such as arrays.
        return self is other or (hash(self) == hash(other) and super().__eq__(other))

    __hash__ = Static.__hash__

    def path_of(self, number: int) -> str:
        """Returns the name of the variable of a number, for messages."""
        return show_path(self.paths[self.graphdef.numbers.index(number)])

    def deal(self, values: list[Any], count: int) -> tuple[Any, ...]:
        """Returns the groups of some values."""
        if self._dealt is None:
            found: list[list[int]] = [[] for _ in range(count)]
            for number, group in enumerate(self.groups):
                found[group].append(number)
            self._dealt = [(numbers, Static(None, [self.paths[number] for number in numbers])) for numbers in found]
        if count == 1:
            return (Group(self._dealt[0][1], values),)
        return tuple(Group(paths, [values[number] for number in numbers]) for numbers, paths in self._dealt)


def odd_keys_of(paths: Sequence[Any]) -> list[Any]:
    """Returns the keys in paths of JAX that are no names."""
    keys = jax.tree_util.DictKey
    return [part.key for path in paths for part in path if type(part) is keys and type(part.key) is not str]


class Group(NamedTuple):
    """A group of values.

    Attributes:
      paths: a `Static` that has the paths of the values as its note, since these are for messages only.
      values: the values.
    """

    paths: Static
    values: Any


def _with_keys(group: Group) -> Any:
    # What JAX takes for the key of a value, and shows in messages, is the place of the value.
    keys = [jax.tree_util.DictKey(show_path(path)) for path in group.paths.note]
    rest = map(jax.tree_util.SequenceKey, range(len(group.paths.note), len(group.values)))
    return list(zip((*keys, *rest), group.values)), group.paths


jax.tree_util.register_pytree_with_keys(Group, _with_keys, Group, operator.attrgetter("values", "paths"))


class Handle:
    """A tree of arguments on its way into a transform and back.

    Attributes:
      tree: the arguments, those by name and, if there is any, what the function is bound to.
      statics: static data to compile for.
      layout: what `ObjectCarrier.split` found.
      targets: where the values are: variables, and items for attributes that hold arrays.
      arrays: the arrays of the tree.
      leaves: the leaves of the tree.
    """

    __slots__ = ("arrays", "layout", "leaves", "statics", "targets", "tree")

    layout: Layout
    targets: list[Any]
    arrays: list[Any]
    leaves: list[Any]

    def __init__(self, tree: Any, statics: Any = None):
        self.tree, self.statics = tree, statics

    def value(self, number: int) -> Any:
        """Returns the caller's value of a number."""
        count = len(self.targets)
        return read_value(self.targets[number]) if number < count else self.arrays[number - count]

    def objects(self, shared: bool = True) -> list[Any]:
        """Returns the caller's objects and variables by number."""
        walk = Walk(shared=shared)
        for leaf, node in zip(self.leaves, self.layout.nodes):
            if node:
                walk.root(leaf, ())
        return walk.objects


class Inner:
    """The tree as the function gets it: a copy of the caller's.

    Attributes:
      tree: the copy.
      layout: its layout before the function.
      roots: the copies of the objects and variables of the tree.
      index: objects and variables by number.
      values: the values that came in.
      items: numbers of the values that no variable holds, by the identity of what holds them and the key.
      contained: those in plain containers and other pytrees, by their paths.
      now: the values of arrays of the tree that are handed on to the next step.
      alive: whether the structure of the copy is as it was: nothing in it has announced a change, and all would.
    """

    __slots__ = (
        "__weakref__",
        "_handle",
        "_holders",
        "alive",
        "contained",
        "index",
        "items",
        "layout",
        "now",
        "roots",
        "tree",
        "values",
    )

    def __init__(self, layout: Layout, groups: Sequence[Group]):
        streams = [iter(group.values) for group in groups]
        self.layout, self.values = layout, [next(streams[group]) for group in layout.groups]
        numbers, assembly = layout.graphdef.numbers, assembly_of(layout.graphdef)
        self.alive = layout.graphdef.announces
        links = (weakref.ref(self),) if self.alive else None
        leaves = assembly.variables(self.values[: len(numbers)], links)
        self.index = {number: leaf for number, leaf in zip(numbers, leaves) if number is not None}
        self.roots, holders = assembly.build(leaves, self.index, links=links)
        self.now = self.values[len(numbers) :]
        objects, arrays = iter(self.roots), iter(self.now)
        self.tree = jax.tree.unflatten(layout.treedef, [next(objects if node else arrays) for node in layout.nodes])
        bare = [number for number, variable in enumerate(numbers) if variable is None]
        items = [(number, holders[at], key) for number, (at, key) in zip(bare, assembly.bare)]
        self._holders = holders  # alive, so that nothing else gets their identity
        self.items = {(id(holder), key): number for number, holder, key in items}
        owned = {id(attributes_of(thing)) for thing in self.index.values() if isinstance(thing, Pytree)} if bare else ()
        self.contained = {layout.paths[number]: number for number, holder, _ in items if id(holder) not in owned}
        self._handle: Handle | None = None

    def drop(self) -> None:
        """Records that the structure has changed, see `fx_nnx.links`."""
        self.alive = False

    def as_handle(self) -> Handle:
        """Returns the copy as what goes into a further transform inside."""
        if self._handle is None:
            self._handle = Handle(self.tree, self.layout.statics)
        return self._handle


def read_value(target: Any) -> Any:
    """Returns the value of a variable, without hooks, or of an item."""
    if type(target) is Item:
        return target.read()
    if frames or not at_top_level():
        note(target)
    return target._raw_value


def held(target: Any) -> Any:
    """Returns a variable itself, or what is in an item: what filters look at."""
    return target.read() if type(target) is Item else target


def root_paths(tree: Any, head: Any = None) -> tuple[list[Any], list[Any], Any]:
    """Returns names and leaves of a tree, and its tree definition."""
    pairs, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_node)
    prefix = () if head is None else (head,)
    return [RootName((*prefix, *path)) for path, _ in pairs], [leaf for _, leaf in pairs], treedef


RESULT = jax.tree_util.GetAttrKey("result")
result_paths = functools.partial(root_paths, head=RESULT)


def is_variable(x: Any) -> bool:
    """Returns whether it is a variable."""
    return isinstance(x, Variable)
