"""The cursor itself."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from fx_core.cursor import _nodes
from fx_core.cursor._operators import Operators, value_of
from fx_core.errors.tree import CursorFindError, TraverseTreeError

A = TypeVar("A")
_OWN = ("_obj", "_parent_key", "_children", "_changed")


class ParentKey(NamedTuple):
    """Where a cursor hangs.

    Attributes:
      parent: the cursor above.
      key: key, index or attribute name in its object.
      kind: ``"item"`` or ``"attr"``.
    """

    parent: "Cursor[Any]"
    key: Any
    kind: str


class Cursor(Operators, Generic[A]):
    """A place in a tree of immutable (or not) objects, through which changes are written down; made by `cursor`.

    ``c["key"]``, ``c[0]`` and ``c.attribute`` are cursors to the parts; assigning to them, or calling `set` and
    `apply_update`, notes a change, and `build` gives a copy of the tree with all changes. The tree itself never
    changes. Operators work on the values: ``c["rate"] *= 0.1``.

    Args:
      obj: the object.
      parent_key: where it hangs; None for the root.
    """

    _obj: A
    _parent_key: ParentKey | None
    _children: dict[Any, "Cursor[Any]"]
    _changed: bool

    def __init__(self, obj: A, parent_key: ParentKey | None):
        vars(self).update(_obj=obj, _parent_key=parent_key, _children={}, _changed=False)

    def __getitem__(self, key: Any) -> "Cursor[Any]":
        return self._child(key, "item")

    def __getattr__(self, name: str) -> "Cursor[Any]":
        if name.startswith("__") or name in _OWN:
            raise AttributeError(name)  # Python's own protocols, such as copying, ask for these
        return self._child(name, "attr")

    def __setitem__(self, key: Any, value: Any) -> None:
        self._assign(key, "item", value)

    def __setattr__(self, name: str, value: Any) -> None:
        self._assign(name, "attr", value)

    def set(self, value: Any) -> Any:
        """Changes the object at this cursor, and builds the whole tree.

        >>> cursor({"a": {"b": 1}})["a"]["b"].set(2)
        {'a': {'b': 2}}

        Args:
          value: the new object.

        Returns:
          The tree with this change and those that were noted before; ``value`` itself when this is the root.
        """
        if self._parent_key is None:
            return value_of(value)
        parent, key, kind = self._parent_key
        parent._assign(key, kind, value)
        return self._root().build()

    def build(self) -> A:
        """Returns a copy of the object with all changes that were noted at and below this cursor.

        Parts without changes are shared with the original, and the object itself is given when nothing changed.
        """
        changes = self._changes()
        return _nodes.rebuild(self._obj, changes) if changes else self._obj

    def apply_update(self, update_fn: Callable[[str, Any], Any]) -> "Cursor[A]":
        """Records changes all over the tree.

        >>> c = cursor({"dense": {"kernel": 1, "bias": 2}})
        >>> c.apply_update(lambda path, x: 0 if path.endswith("bias") else x).build()
        {'dense': {'kernel': 1, 'bias': 0}}

        Args:
          update_fn: takes a path, such as ``"params/Dense_0/kernel"``, and the object there, gives the object itself or
            another one. It is called from the top down, not for the root, and not inside of what it has changed.

        Returns:
          This cursor.
        """
        for _ in traverse_tree(self, update_fn=update_fn):
            pass
        return self

    def find(self, cond_fn: Callable[[str, Any], bool]) -> "Cursor[Any]":
        """Returns the one part of the tree that fulfils a condition.

        >>> cursor({"a": 1, "b": [2, 3]}).find(lambda path, x: x == 3).set(4)
        {'a': 1, 'b': [2, 4]}

        Args:
          cond_fn: takes a path and the object there, as in `apply_update`.

        Returns:
          A cursor to the part.

        Raises:
          CursorFindError: nothing fulfils the condition, or several parts do.
        """
        found = self.find_all(cond_fn)
        first, second = next(found, None), next(found, None)
        if first is None or second is not None:
            raise CursorFindError(first, second)
        return first

    def find_all(self, cond_fn: Callable[[str, Any], bool]) -> "Iterator[Cursor[Any]]":
        """Cursors to all parts of the tree that fulfil a condition, from the top down.

        What is found is not searched inside.

        Args:
          cond_fn: takes a path and the object there, as in `apply_update`.
        """
        return traverse_tree(self, cond_fn=cond_fn)

    def __iter__(self) -> Iterator[Any]:
        """Cursors to the entries of a list or tuple; else what the value gives, such as the keys of a dict."""
        value: Any = self.build()
        return map(self.__getitem__, range(len(value))) if isinstance(value, list | tuple) else iter(value)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(list(self))

    def __repr__(self) -> str:
        changes = self._changes()
        return f"Cursor({self._obj!r}, changes={changes!r})" if changes else f"Cursor({self._obj!r})"

    def _child(self, key: Any, kind: str) -> "Cursor[Any]":
        key, kind = _nodes.normalize(self._obj, key, kind, self._path())
        if not _nodes.is_container(self._obj):
            # Entries of arrays and the like can be read; there is nothing to note changes in.
            return Cursor(_nodes.read(self._obj, key, kind, self._path()), ParentKey(self, key, kind))
        if key not in self._children:
            value = _nodes.read(self._obj, key, kind, self._path())
            self._children[key] = Cursor(value, ParentKey(self, key, kind))
        return self._children[key]

    def _assign(self, key: Any, kind: str, value: Any) -> None:
        key, kind = _nodes.normalize(self._obj, key, kind, self._path())
        _nodes.check_writable(self._obj, key, kind, self._path())
        if key not in self._children:
            self._children[key] = Cursor(None, ParentKey(self, key, kind))
        self._children[key]._replace(value_of(value))

    def _replace(self, value: Any) -> None:
        vars(self).update(_obj=value, _children={}, _changed=True)

    def _changes(self) -> dict[Any, Any]:
        built = {key: (child, child.build()) for key, child in self._children.items()}
        return {key: new for key, (child, new) in built.items() if child._changed or new is not child._obj}

    def _root(self) -> "Cursor[Any]":
        return self if self._parent_key is None else self._parent_key.parent._root()

    def _path(self) -> str:
        if self._parent_key is None:
            return ""
        return _join(self._parent_key.parent._path(), self._parent_key.key)


def cursor(obj: A) -> Cursor[A]:
    """Returns a cursor to the root of a tree of dicts, lists, tuples, named tuples and dataclasses, nested as you like.

    >>> tree = {"layers": [{"rate": 0.5}, {"rate": 0.25}], "name": "net"}
    >>> c = cursor(tree)
    >>> c["layers"][0]["rate"] *= 0.5
    >>> c["name"] = "new"
    >>> c.build()
    {'layers': [{'rate': 0.25}, {'rate': 0.25}], 'name': 'new'}
    >>> tree["name"]
    'net'

    Args:
      obj: the tree, such as a TrainState.
    """
    return Cursor(obj, None)


def traverse_tree(
    node: Cursor[Any],
    path: str = "",
    *,
    update_fn: Callable[[str, Any], Any] | None = None,
    cond_fn: Callable[[str, Any], bool] | None = None,
) -> Iterator[Cursor[Any]]:
    """Walks the tree below a cursor from the top down, to update it or to find in it.

    Args:
      node: where to start; it is not visited itself.
      path: its path.
      update_fn: gives the new object for a path and an object; changes are noted in the cursors.
      cond_fn: returns whether to yield a value.

    Raises:
      TraverseTreeError: not exactly one of the functions is given.
    """
    if (update_fn is None) == (cond_fn is None):
        raise TraverseTreeError(update_fn, cond_fn)
    return _walk(node, path, update_fn, cond_fn)


def _walk(node: Cursor[Any], path: str, update_fn: Any, cond_fn: Any) -> Iterator[Cursor[Any]]:
    for key, kind in _nodes.entry_names(node.build()):
        child, where = node._child(key, kind), _join(path, key)
        value = child.build()
        if cond_fn is not None:
            if cond_fn(where, value):
                yield child
                continue
        else:
            new = value_of(update_fn(where, value))
            if new is not value:
                child._replace(new)
                continue
        yield from _walk(child, where, update_fn, cond_fn)


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)
