"""Records: the structure of a model, found out once and kept until it changes.

A record holds the graph definition of a model and where its values are. It is linked to every object and variable in
it; whatever changes their structure drops it (see `fx_nnx.links`). Plain lists and dicts, those of static attributes
among them, cannot announce changes, so a record remembers what was in them and looks again each time; a model with
parts that can neither announce nor be compared cheaply (other static attributes without a hash, pytrees of other
libraries) is walked every time.
"""

import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from fx_nnx.errors import SharedReferenceError, not_a_node
from fx_nnx.graph.children import Item, one_level
from fx_nnx.graph.definition import EMPTY, LEAF, NODE, GraphDef, NodeDef, NodeRef, RefDef, StaticValue, VariableDef
from fx_nnx.graph.kinds import is_node, kind_of, known_kinds
from fx_nnx.links import structure_lock
from fx_nnx.modes import set_graph_mode
from fx_nnx.objects.fields import is_array
from fx_nnx.objects.pytree import Pytree, attributes_of, kinds_of
from fx_nnx.paths import Path, sorted_keys
from fx_nnx.snapshots import Snapshot, exact, snapshot_of
from fx_nnx.states.nesting import Paths
from fx_nnx.states.sealed import SealedState
from fx_nnx.states.state import State
from fx_nnx.variables.writing import is_ref

__all__ = ["Links", "Record", "Walk", "joined", "link", "record_for", "record_of", "walk_graph"]


Links = tuple[weakref.ref[Any], ...]
_tuple = tuple.__new__


@dataclasses.dataclass(slots=True, weakref_slot=True, eq=False)
class Record:
    """The structure of one model.

    Attributes:
      root: refers to the model; None if it cannot keep a record.
      lasting: whether it may be kept.
      graphdef: the definition.
      leaves: the variables, and an `Item` for each other leaf, in the order of ``graphdef.paths``.
      alive: whether nothing announced a change since.
      only_variables: whether all leaves are variables.
      contents: plain containers, and what was in them.
      kept: what was found out and holds as long as the record does.
      avals: types of the values that were put in last, see `fx_nnx.graph.updating`.
      tree: the structure of the same model as a tree, if it is known to be one.
    """

    root: weakref.ref[Any] | None = None
    lasting: bool = False
    graphdef: GraphDef = dataclasses.field(init=False)
    leaves: list[Any] = dataclasses.field(init=False)
    alive: bool = True
    only_variables: bool = True
    contents: list[tuple[Any, Any]] = dataclasses.field(default_factory=list[tuple[Any, Any]])
    kept: dict[Any, Any] = dataclasses.field(default_factory=dict[Any, Any])
    avals: list[Any] | None = None
    tree: "Record | None" = None
    _trace: tuple[object] | None = dataclasses.field(default=None, init=False)

    def of_leaf(self, leaf: Any) -> Self:
        """Be the record of an array or a number alone; None has no leaves."""
        self.leaves = [] if leaf is None else [Item([leaf], 0)]
        self.graphdef, self.only_variables = GraphDef((), (), len(self.leaves)), False
        self.graphdef.paths = [() for _ in self.leaves]
        return self

    def read(self) -> list[Any]:
        """Returns the leaves: variables themselves, and the values of items."""
        if self.only_variables:
            return self.leaves.copy()
        return [leaf.read() if type(leaf) is Item else leaf for leaf in self.leaves]

    def is_true(self) -> bool:
        """Returns whether the structure is as it was."""
        return self.alive and (not self.contents or self.holds())

    def trace(self) -> object:
        """Returns the token of the trace that all variables were made in; None if there are several."""
        if self._trace is None:
            tokens = [leaf._nnx_trace for leaf in self.leaves] if self.only_variables else []
            alike = bool(tokens) and all(token == tokens[0] for token in tokens)
            self._trace = (tokens[0] if alike else None,)
        return self._trace[0]

    def groups(self, key: Any, make: Any) -> Any:
        """Returns what ``make`` found for some filters, kept by the filters if they are hashable."""
        try:
            found = self.kept.get(key)
        except TypeError:
            return make()
        if found is None:
            found = self.kept[key] = make()
        return found

    def drop(self) -> None:
        """Discards the record: the structure has changed."""
        self.alive = False
        root = None if self.root is None else self.root()
        if root is not None and root._nnx_record is self:
            object.__setattr__(root, "_nnx_record", None)

    def holds(self) -> bool:
        """Returns whether the record is still true of the plain containers in it."""
        return all(
            seen.is_of(container) if type(seen) is Snapshot else _contents(container) == seen
            for container, seen in self.contents
        )


_PRUNE_AT = 16


def link(obj: Any, own: Links) -> None:
    """Lets a record die when ``obj`` announces a change.

    To be called before the structure of ``obj`` is read, by a thread that holds the `structure_lock`.

    Args:
      obj: an object or a variable.
      own: a weak reference to the record; one tuple is shared by all that are linked to it alone.
    """
    links = obj._nnx_links
    if links is None:
        object.__setattr__(obj, "_nnx_links", own)
    elif own[0] is not links[-1]:
        object.__setattr__(obj, "_nnx_links", joined(links, own))


def joined(links: Links, own: Links) -> Links:
    """Returns what an object is linked to together with another record, without those that are gone."""
    if len(links) >= _PRUNE_AT:
        links = tuple([ref for ref in links if (found := ref()) is not None and found.alive])
    return links + own


class _Same:
    """A node that was in a plain container; equal if it is the same one."""

    __slots__ = ("item",)

    def __init__(self, item: Any):
        self.item = item

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and self.item is other.item

    __hash__ = None  # type: ignore[assignment]


def _contents(container: Any) -> Any:
    """Give something to compare: keys and items, with None for arrays, whose values may change."""
    if isinstance(container, State):
        return [(path, _content(leaf)) for path, leaf in container.flat_state()]
    if type(container) is dict:
        return [(key, _content(item)) for key, item in container.items()]
    return [_content(item) for item in container]


def _content(item: Any) -> Any:
    if kind_of(item) == "leaf" and not is_ref(item):
        return None if is_array(item) else (exact(item), snapshot_of(item))
    return _Same(item)


class Walk:
    """One walk through a model, or through several that may refer to each other.

    Attributes:
      objects: by their number what is met again: objects, variables, and references that no variable holds.
      origin: for each leaf the number of the model that it was found in.

    Args:
      record: what is to be dropped when something in the model changes, if anything.
      shared: whether an object may be reachable on several paths.
      as_tree: whether all that JAX takes for a leaf of a plain container is one, numbers and text too.
    """

    def __init__(self, record: Record | None = None, *, shared: bool = True, as_tree: bool = False):
        self.record, self.shared, self.as_tree = record or Record(), shared, as_tree
        self.links = (weakref.ref(self.record),)
        self.roots = 0
        self.origin: list[int] = []
        self.nodes: list[Any] = []
        self.attributes: list[Any] = []
        self.paths: list[Path] = []
        self.leaves: list[Any] = []
        self.numbers: list[int | None] = []
        self.index: dict[int, int] = {}
        self.objects: list[Any] = []
        self.where: dict[int, Path] = {}
        # By identity, which nothing else gets meanwhile: a record has the values, and what it has to watch.
        self.statics: dict[int, Any] = {}

    def root(self, value: Any, path: Path, number: int = 0) -> None:
        """Looks at one more model, whose leaves get a number in ``origin``."""
        self.roots += 1
        with structure_lock:
            self.visit(value, kind_of(value), path)
        self.origin += [number] * (len(self.leaves) - len(self.origin))

    def through(self, leaves: Sequence[Any], names: Sequence[Any] = ()) -> Self:
        """Looks at the objects and variables among the leaves of a tree.

        Args:
          leaves: the leaves; what is found in one has its number in ``origin``.
          names: for each leaf how paths in it begin.
        """
        for number, leaf in enumerate(leaves):
            if is_node(leaf):
                self.root(leaf, tuple(names[number : number + 1]), number)
        return self

    def graphdef(self) -> GraphDef:
        """Returns the structure that was found."""
        made = GraphDef(self.nodes, self.attributes, len(self.leaves), (), self.roots)
        made.numbers = self.numbers
        return made

    def visit(self, value: Any, kind: str, path: Path) -> None:
        """Looks at a node of some kind and what it holds."""
        if kind == "variable":
            number = self.enter(value, path)
            if number is not None:
                meta = value._nnx_meta
                for item in meta.changing:
                    self.watch(item, snapshot_of(item))
                self.nodes.append(_tuple(VariableDef, (type(value), number, meta)))
                self.paths.append(path)
                self.leaves.append(value)
                self.numbers.append(number)
        elif kind == "object":
            if not (self.shared or type(value)._nnx_pytree):
                raise not_a_node(value, path)
            number = self.enter(value, path)
            if number is not None:
                attributes = attributes_of(value)
                keys = sorted_keys(attributes)
                self.nodes.append(NodeDef(type(value), number, len(keys), None))
                self.items(attributes, keys, path, value, kinds_of(value))
        else:
            self.container(value, kind, path)

    def enter(self, value: Any, path: Path) -> int | None:
        """Returns a number to what is met for the first time; note a reference to what was met before."""
        index, key = self.index, id(value)
        number = index.get(key)
        if number is not None:
            if not self.shared:
                raise SharedReferenceError(type(value).__name__, self.where[key], path)
            self.nodes.append(NodeRef(number))
            return None
        number = index[key] = len(index)
        self.objects.append(value)
        if not self.shared:
            self.where[key] = path
        if self.record.lasting:
            link(value, self.links)  # before anything of it is read, so that no change can fall in between
        return number

    def enter_ref(self, ref: Any, path: Path) -> bool:
        """Records a `jax.Ref` that no variable holds; returns whether it is met for the first time."""
        number = self.index.get(id(ref))
        if number is None:
            number = self.index[id(ref)] = len(self.index)
            self.objects.append(ref)
            self.nodes.append(RefDef(number))
            self.where[id(ref)] = path
            return True
        if not self.shared:
            raise SharedReferenceError(type(ref).__name__, self.where[id(ref)], path)
        self.nodes.append(NodeRef(number))
        return False

    def items(self, container: Any, keys: Sequence[Any], path: Path, owner: Any, kinds: Mapping[Any, bool]) -> None:
        """Records the attributes of an object, or the items of a container, by which of them are data."""
        found = self.attributes
        for key in keys:
            item = container[key]
            if not kinds[key]:
                self.static(key, item)
                continue
            kind = "empty" if item is None else known_kinds.get(type(item)) or kind_of(item)
            if kind == "leaf":
                if not is_ref(item):
                    found.append((key, LEAF))
                else:
                    found.append((key, NODE))
                    if not self.enter_ref(item, (*path, key)):
                        continue
                self.paths.append((*path, key))
                self.leaves.append(Item(container, key, owner))
                self.numbers.append(None)
                self.record.only_variables = False
            elif kind == "empty":
                found.append((key, EMPTY))
            else:
                found.append((key, NODE))
                self.visit(item, kind, (*path, key))

    def static(self, key: Any, item: Any) -> None:
        """Records a static value with its contents, as far as they can change."""
        known = self.statics.get(id(item))
        if known is None:  # one configuration, function, or dtype is often in many modules
            kept = snapshot_of(item)
            known = self.statics[id(item)] = _tuple(StaticValue, (exact(kept), kept))
            if kept is not item:
                self.watch(item, kept)
            else:
                try:
                    hash(item)
                except TypeError:  # it may be changed in place, which nothing tells us
                    self.record.lasting = False
        self.attributes.append((key, known))

    def watch(self, item: Any, kept: Any) -> None:
        """Lets the record look whether a value still is as it was kept."""
        if kept is item:
            self.record.lasting = False
        else:
            self.record.contents.append((item, kept))

    def container(self, value: Any, kind: str, path: Path) -> None:
        """Records a list, a tuple, a dict or a registered node, and its items."""
        if kind == "dict":
            keys, children, metadata = sorted_keys(value), value, None
        elif kind in ("list", "tuple"):
            keys, children, metadata = list(range(len(value))), value, None
        else:
            keys, children, metadata = one_level(value)
            if not isinstance(value, tuple | State):
                self.record.lasting = False
        self.nodes.append(NodeDef(type(value), None, len(keys), metadata))
        if kind in ("list", "dict") or (isinstance(value, State) and not isinstance(value, SealedState)):
            self.record.contents.append((value, _contents(value)))
        data = {key: self.as_tree or kind_of(children[key]) != "leaf" or is_array(children[key]) for key in keys}
        self.items(children, keys, path, None, data)


def walk_graph(root: Any, *, shared: bool = True) -> Record:
    """Finds out the structure of a model by looking at all of it.

    Args:
      root: a module or another node, an array, a number or text; the leaves of its record can be read and written.
      shared: whether an object may be reachable on several paths.

    Raises:
      SharedReferenceError: an object is shared although it must not.
      NnxError: it is not made of nodes; or it is to be a tree, and has an object with ``pytree=False``.
    """
    record = Record(weakref.ref(root), lasting=True) if isinstance(root, Pytree) else Record()
    if root is None or kind_of(root) == "leaf":
        if not is_array(root) and not isinstance(root, int | float | complex | str | bytes | np.generic | None):
            raise not_a_node(root)
        return record.of_leaf(root)
    walk = Walk(record, shared=shared, as_tree=not shared)
    walk.root(root, ())
    record.graphdef, record.leaves = walk.graphdef(), walk.leaves
    record.graphdef.paths, record.graphdef._record = Paths(walk.paths), walk.links[0]
    return record


def record_of(root: Any) -> Record:
    """Returns the structure of a model: what is known of it, if it has not changed, or a new record."""
    if kind_of(root) != "object":
        return walk_graph(root)
    known = root._nnx_record
    if known is not None and known.is_true():
        return known
    made = walk_graph(root)
    if made.lasting:
        object.__setattr__(root, "_nnx_record", made)
    return made


def record_for(root: Any, graph: bool | None) -> Record:
    """Returns the structure of a model for a function that takes ``graph``; False makes sure that it is a tree."""
    if set_graph_mode.resolve(graph):
        return record_of(root)
    if kind_of(root) != "object":
        return walk_graph(root, shared=False)
    owner = record_of(root)  # which whatever changes the structure drops, and what is known of the tree with it
    known = owner.tree
    if known is not None and known.is_true():
        return known
    made = walk_graph(root, shared=False)
    if made.lasting and owner.lasting:
        owner.tree = made
    return made
