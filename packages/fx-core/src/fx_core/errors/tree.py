"""Mistakes with nested dicts, traversals and cursors."""

from typing import Any

from fx_core.errors._base import FxError
from fx_core.errors.kinds import ArgumentTypeError


def brief(value: Any) -> str:
    """The text of a value, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


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


def flatten_type(function: str, value: Any) -> ArgumentTypeError:
    """Something that is not a dict was to be flattened or unflattened."""
    return ArgumentTypeError(
        f"{function} works on nested dicts.",
        expected="a dict or FrozenDict",
        got=f"{type(value).__name__}: {brief(value)}",
        fix="Pass a dict; for other trees see jax.tree_util.tree_flatten_with_path.",
    )
