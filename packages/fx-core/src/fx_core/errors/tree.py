"""Mistakes with nested dicts, traversals and cursors."""

from collections.abc import Sequence
from typing import Any

from fx_core.errors._base import FxError

__all__ = [
    "CursorAssignError",
    "CursorAttributeError",
    "CursorFindError",
    "CursorIndexError",
    "CursorKeyError",
    "FlattenKeyError",
    "FlattenTypeError",
    "TraversalCountError",
    "TraversalLookupError",
    "TraversalTypeError",
    "TraverseTreeError",
    "UnflattenConflictError",
]


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


class FlattenTypeError(FxError, TypeError, ValueError):
    """Something that is not a dict was to be flattened or unflattened.

    Wrong::

        flatten_dict([1, 2])

    Right::

        flatten_dict({"a": 1, "b": 2})

    Args:
      function: the function that was called.
      value: what came.
    """

    def __init__(self, function: str, value: Any):
        super().__init__(
            f"{function} works on nested dicts.",
            expected="a dict or FrozenDict",
            got=f"{type(value).__name__}: {_brief(value)}",
            fix="Pass a dict; for other trees see jax.tree_util.tree_flatten_with_path.",
        )


class FlattenKeyError(FxError, TypeError):
    """A key is not of the kind that flat dicts have: tuples without ``sep``, strings with ``sep``.

    Wrong::

        unflatten_dict({"a/b": 1})
        flatten_dict({1: {"b": 1}}, sep="/")

    Right::

        unflatten_dict({"a/b": 1}, sep="/")
        flatten_dict({1: {"b": 1}})

    Args:
      key: the key.
      sep: the separator, or None.
    """

    def __init__(self, key: Any, sep: str | None):
        wanted = "a tuple of keys" if sep is None else "string keys"
        fix = "Pass the separator of the keys as sep." if sep is None else "Leave out sep, and keys become tuples."
        super().__init__(f"Key {key!r} does not fit sep={sep!r}.", expected=wanted, got=type(key).__name__, fix=fix)


class UnflattenConflictError(FxError, ValueError):
    """A flat dict has a value at a path, and other values below that path.

    Wrong::

        unflatten_dict({("a",): 1, ("a", "b"): 2})

    Right::

        unflatten_dict({("a", "c"): 1, ("a", "b"): 2})

    Args:
      key: the path that is both a value and a dict.
    """

    def __init__(self, key: Any):
        super().__init__(
            "A path is a value and a dict at the same time.",
            path=repr(key),
            expected="each path either a value or a dict",
            got=f"a value at {key!r} and values below it",
            fix="Rename one of them.",
        )


class TraversalTypeError(FxError, ValueError):
    """A traversal met an object that it cannot go into.

    Wrong::

        list(t_identity.each().iterate(3))

    Right::

        list(t_identity.each().iterate([3]))

    Args:
      traversal: what was to be done.
      expected: kinds of objects that it goes into.
      value: what came.
    """

    def __init__(self, traversal: str, expected: str, value: Any):
        super().__init__(
            f"Cannot traverse {traversal} of this object.",
            expected=expected,
            got=f"{type(value).__name__}: {_brief(value)}",
            fix="Select the right part of the tree first, by [key] or .attribute.",
        )


class TraversalLookupError(FxError, LookupError):
    """A traversal selects a key or an index that the object does not have.

    Wrong::

        list(t_identity["b"].iterate({"a": 1}))

    Right::

        list(t_identity["a"].iterate({"a": 1}))

    Args:
      key: the key or index.
      value: the object.
    """

    def __init__(self, key: Any, value: Any):
        have = ", ".join(map(repr, value)) if hasattr(value, "keys") else f"{len(value)} entries"
        super().__init__(
            f"No entry {key!r} to traverse.", expected=f"one of: {have}", got=repr(key), fix="Check the key."
        )


class TraversalCountError(FxError, ValueError):
    """``Traversal.set`` was given more or fewer values than it selects.

    Wrong::

        t_identity.each().set([1, 2, 3], [0, 0])

    Right::

        t_identity.each().set([1, 2], [0, 0])

    Args:
      given: number of values given.
      selected: number of values selected.
    """

    def __init__(self, given: int, selected: int):
        super().__init__(
            f"Too {'many' if given > selected else 'few'} values for this traversal.",
            expected=f"{selected} values",
            got=f"{given} values",
            fix="Count what the traversal selects with list(traversal.iterate(inputs)).",
        )


class TraverseTreeError(FxError, ValueError):
    """A walk over a cursor's tree needs either a function that updates or one that finds, and got both or neither.

    Wrong::

        walk(tree)

    Right::

        walk(tree, cond_fn=lambda path, value: path == "a/b")

    Args:
      update_fn: the function that updates, or None.
      cond_fn: the function that finds, or None.
    """

    def __init__(self, update_fn: Any, cond_fn: Any):
        super().__init__(
            "A walk over a tree either updates or finds.",
            expected="exactly one of update_fn and cond_fn",
            got="neither" if update_fn is None and cond_fn is None else "both",
            fix="Use Cursor.apply_update to update, Cursor.find or Cursor.find_all to find.",
        )


class CursorFindError(FxError, ValueError):
    """``Cursor.find`` found nothing, or more than one thing.

    Wrong::

        cursor({"a": 1, "b": 1}).find(lambda path, value: value == 1)

    Right::

        cursor({"a": 1, "b": 1}).find(lambda path, value: path == "a")

    Args:
      cursor: the first find, or None if there was none.
      cursor2: the second find, if there was one.
    """

    def __init__(self, cursor: Any = None, cursor2: Any = None):
        if cursor is None:
            what, got = "Nothing in the tree fulfils the condition.", "none"
            fix = "Weaken the condition; it is called with paths such as 'params/Dense_0/kernel'."
        else:
            what, got = "More than one thing in the tree fulfils the condition.", f"{cursor} and {cursor2}"
            fix = "Narrow the condition, or use find_all."
        super().__init__(what, expected="exactly one", got=got, fix=fix)


class CursorKeyError(FxError, KeyError):
    """A key that the dict at a cursor does not have was read. Assigning to a new key adds it.

    Wrong::

        cursor({"a": 1})["b"].build()

    Right::

        cursor({"a": 1})["a"].build()

    Args:
      key: the key.
      obj: the dict.
      path: where in the tree.
    """

    # KeyError prints the repr of its text, line breaks as \n.
    __str__ = Exception.__str__

    def __init__(self, key: Any, obj: Any, path: str = ""):
        super().__init__(
            f"Key {key!r} is not in the dict.",
            path=path or None,
            expected="one of " + _brief(list(obj)),
            got=repr(key),
            fix="Check the key, or assign to it to add it.",
        )


class CursorIndexError(FxError, IndexError):
    """An index that is out of range, or no integer, was used on a list or tuple at a cursor.

    Wrong::

        cursor([1, 2])[2]

    Right::

        cursor([1, 2])[1]

    Args:
      index: the index.
      length: number of entries.
      path: where in the tree.
    """

    def __init__(self, index: Any, length: int, path: str = ""):
        super().__init__(
            f"Index {index!r} does not name an entry of a sequence of {length}.",
            path=path or None,
            expected=f"an integer from {-length} to {length - 1}" if length else "nothing: the sequence is empty",
            got=repr(index),
            fix="Check the index; to change several entries set each, or set the whole sequence.",
        )


class CursorAttributeError(FxError, AttributeError):
    """An attribute that the object at a cursor does not have was read or set.

    Wrong::

        cursor(state).steps = 3

    Right::

        cursor(state).step = 3

    Args:
      name: the attribute.
      obj: the object.
      fields: the attributes it can have.
      path: where in the tree.
    """

    def __init__(self, name: str, obj: Any, fields: Sequence[str] = (), path: str = ""):
        super().__init__(
            f"{type(obj).__name__} has no attribute {name!r} that a cursor can use.",
            path=path or None,
            expected="one of " + ", ".join(fields) if fields else "a named tuple or a dataclass",
            got=repr(name),
            fix="Check the name; entries of dicts and lists are reached with [...].",
        )


class CursorAssignError(FxError, TypeError):
    """Something inside an object was read or set through a cursor that cursors cannot go into.

    Wrong::

        cursor(3)["a"] = 4

    Right::

        cursor({"a": 3})["a"] = 4

    Args:
      key: the key, index or attribute.
      obj: the object.
      path: where in the tree.
    """

    def __init__(self, key: Any, obj: Any, path: str = ""):
        super().__init__(
            f"A cursor cannot go to {key!r} inside of {type(obj).__name__}.",
            path=path or None,
            expected="a dict, FrozenDict, list, tuple, named tuple or dataclass",
            got=f"{type(obj).__name__}: {_brief(obj)}",
            fix="Set the whole object instead.",
        )
