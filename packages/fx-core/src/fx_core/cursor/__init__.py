"""Cursors: changes deep inside of immutable trees, written as if they were assignments."""

from fx_core.cursor._cursor import Cursor, ParentKey, cursor, traverse_tree

__all__ = ["Cursor", "ParentKey", "cursor", "traverse_tree"]
