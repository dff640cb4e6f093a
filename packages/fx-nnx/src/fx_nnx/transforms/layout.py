"""Layouts: the hashable part of a tree of arguments, and handles: the tree on its way through a transform.

A plan is a layout that is kept, with the record of the first object among the arguments if there is one, so that a call
in the steady state looks at no structure. It is true as long as all their records are, since whatever changes
structure, references included, drops those.
"""

import dataclasses
import functools
import operator
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
from fx_core.compat.jax import at_top_level
from fx_transforms.carrier import Static

from fx_nnx.captures import frames, note
from fx_nnx.graph.children import Item
from fx_nnx.graph.definition import GraphDef
from fx_nnx.graph.kinds import is_node, kind_of, known_kinds
from fx_nnx.graph.record import Record, Walk, record_of
from fx_nnx.paths import Path, RootName, show_path
from fx_nnx.snapshots import exact
from fx_nnx.transforms.arguments import StaticArguments
from fx_nnx.variables.variable import Variable

__all__ = [
    "Group",
    "Handle",
    "Inner",
    "Layout",
    "Plan",
    "find_plan",
    "find_records",
    "keep_plan",
    "on_tree",
    "read_value",
    "variables_in",
]


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

    def tree(self, objects: Iterable[Any], arrays: Iterable[Any]) -> Any:
        """Returns the tree of arguments that some objects and arrays make."""
        objects, arrays = iter(objects), iter(arrays)
        return self.treedef.unflatten([next(objects if node else arrays) for node in self.nodes])

    def path_of(self, number: int) -> str:
        """Returns the name of the variable of a number, for messages."""
        return show_path(self.paths[self.graphdef.numbers.index(number)])

    def by_group(self, written: Sequence[int], count: int) -> tuple[tuple[bool, ...], ...]:
        """Returns for each of some groups which values of objects and variables are written, given their numbers; an
        empty tuple if none is.
        """
        if not written:
            return ()
        chosen, groups = frozenset(written), self.groups[: len(self.graphdef.numbers)]
        return tuple([tuple([n in chosen and group == g for n, group in enumerate(groups)]) for g in range(count)])

    def deal(self, values: list[Any], count: int) -> tuple[Any, ...]:
        """Returns the groups of some values."""
        if self._dealt is None:
            found: list[list[int]] = [[] for _ in range(count)]
            for number, group in enumerate(self.groups):
                found[group].append(number)
            self._dealt = [(numbers, Static(None, [self.paths[number] for number in numbers])) for numbers in found]
        if count == 1:
            return (Group(self._dealt[0][1], values),)
        return tuple([Group(paths, [*map(values.__getitem__, numbers)]) for numbers, paths in self._dealt])


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


@dataclasses.dataclass(slots=True, eq=False)
class Handle:
    """A tree of arguments on its way into a transform and back.

    Attributes:
      tree: the arguments, those by name and, if there is any, what the function is bound to.
      statics: static data to compile for.
      layout: what `ObjectCarrier.split` found.
      targets: where the values are: variables, and items for attributes that hold arrays.
      arrays: the arrays of the tree.
      leaves: the leaves of the tree.
      records: those of the objects among them, if they are known.
    """

    tree: Any
    statics: Any = None
    layout: Layout = dataclasses.field(init=False)
    targets: list[Any] = dataclasses.field(init=False)
    arrays: list[Any] = dataclasses.field(init=False)
    leaves: list[Any] = dataclasses.field(init=False)
    records: Sequence[Record] = ()

    def value(self, number: int) -> Any:
        """Returns the caller's value of a number."""
        count = len(self.targets)
        return read_value(self.targets[number]) if number < count else self.arrays[number - count]

    def objects(self) -> list[Any]:
        """Returns the caller's objects and variables by number."""
        return Walk().through(self.leaves).objects


@dataclasses.dataclass(slots=True, weakref_slot=True, eq=False)
class Inner:
    """The tree as the function gets it: a copy of the caller's.

    Attributes:
      layout: its layout before the function.
      values: the values that came in.
      now: the values of arrays of the tree that are handed on to the next step.
      alive: whether the structure of the copy is as it was: nothing in it has announced a change, and all would.
      tree: the copy.
      roots: the copies of the objects and variables of the tree.
      index: objects and variables by number.
      items: numbers of the values that no variable holds, by the identity of what holds them and the key.
      contained: those in plain containers and other pytrees, by their paths.
      holders: what holds the values, alive, so that nothing else gets its identity.
      handle: the copy as what goes into a further transform inside.
    """

    layout: Layout
    values: list[Any]
    now: list[Any]
    alive: bool
    tree: Any = None
    roots: list[Any] = dataclasses.field(init=False)
    index: dict[int, Any] = dataclasses.field(init=False)
    items: dict[tuple[int, Any], int] = dataclasses.field(init=False)
    contained: dict[Any, int] = dataclasses.field(init=False)
    holders: list[Any] = dataclasses.field(init=False)
    handle: Handle | None = None

    def drop(self) -> None:
        """Records that the structure has changed, see `fx_nnx.links`."""
        self.alive = False

    def as_handle(self) -> Handle:
        """Returns the copy as what goes into a further transform inside."""
        if self.handle is None:
            self.handle = Handle(self.tree, self.layout.statics)
        return self.handle


def on_tree(f: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what runs inside of a transform, a function of an `Inner` and more: it calls ``f`` with the latter, the
    arguments, those by name, and what is bound.
    """

    def inside(inner: Inner, *args: Any) -> Any:
        statics = inner.layout.statics
        return f(*args, *(inner.tree if statics is None else StaticArguments.put(statics, *inner.tree)))

    return inside


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


def variables_in(names: Sequence[Any], leaves: Sequence[Any], shared: bool = True) -> Iterator[tuple[int, Path, Any]]:
    """Gives number of the leaf, path, and variable, for each object in a tree alone: what two refer to comes twice."""
    for number, (name, leaf) in enumerate(zip(names, leaves)):
        if is_node(leaf):
            walk = Walk(shared=shared)
            walk.root(leaf, (name,))
            yield from [(number, path, part) for path, part in zip(walk.paths, walk.leaves) if is_variable(part)]


_LIMIT = 64
_odd: dict[Any, bool] = {}
_without_objects: dict[Any, "Plan"] = {}


class Plan(NamedTuple):
    """What is known of a tuple of arguments.

    Attributes:
      layout: their layout.
      others: the records of the objects after the first one, held weakly.
      targets: the variables and items of all records; they are let go as soon as one of the records is.
    """

    layout: Layout
    others: Sequence[weakref.ref[Record]]
    targets: list[Any]


def find_records(
    tree: tuple[Any, ...], *, nested: bool = False
) -> tuple[list[Any], list[Record], list[Any], list[Any]] | None:
    """Returns the leaves of arguments, the records of the objects, the arrays, and what distinguishes the records.

    None if something among them is neither an object with a lasting record nor an array.

    Args:
      tree: the arguments.
      nested: whether there are containers to look into, which most often there are not.
    """
    leaves: list[Any]
    key: list[Any]
    records: list[Record] = []
    arrays: list[Any] = []
    if nested or tree[1]:
        nested, (leaves, treedef) = True, jax.tree.flatten(tree, is_leaf=is_node)
        odd = _odd.get(treedef)
        if odd is None:
            if len(_odd) >= _LIMIT:
                _odd.clear()
            paths = [path for path, _ in jax.tree.leaves_with_path(tree, is_leaf=is_node)]
            odd = _odd[treedef] = bool(odd_keys_of(paths))
        if odd:  # tree definitions whose keys are 1 and True are equal, but the trees are not the same
            return None
        key = [treedef]
    elif len(tree) == 2:
        leaves, key = list(tree[0]), []
    else:  # what a function is bound to comes last, and must not be mistaken for an argument
        leaves, key = [*tree[0], *tree[2]], [len(tree[2])]
    for arg in leaves:
        kind = known_kinds.get(type(arg)) or kind_of(arg)
        if kind == "object":
            record = arg._nnx_record
            if record is None or not record.alive or (record.contents and not record.holds()):
                record = record_of(arg)
                if not record.lasting:
                    return None
            records.append(record)
            key.append(id(record))
        elif kind == "leaf":
            arrays.append(arg)
            key.append(None)
        else:
            return None if nested else find_records(tree, nested=True)
    return leaves, records, arrays, key


def find_plan(key: tuple[Any, ...], records: Sequence[Record]) -> Plan | None:
    """Returns what was kept for a key, if it is about these records."""
    try:
        plan: Any = (records[0].kept if records else _without_objects).get(key)
    except TypeError:  # a container with an unhashable part, of which the walk will tell more
        return None
    if plan is not None:
        for ref, record in zip(plan.others, records[1:]):
            if ref() is not record:
                return None
    return plan


def keep_plan(key: tuple[Any, ...], records: Sequence[Record], layout: Layout, targets: list[Any]) -> None:
    """Keeps what a walk found."""
    kept: Any = records[0].kept if records else _without_objects
    if len(kept) >= _LIMIT:
        kept.clear()
    first = weakref.ref(records[0]) if records else None

    def gone(_: Any) -> None:
        record = None if first is None else first()
        if record is not None:
            record.kept.pop(key, None)  # which would keep the variables of the other

    others = [weakref.ref(record, gone) for record in records[1:]]
    kept[key] = Plan(layout, others, targets)
