"""Static: a value that crosses JAX transforms in the tree structure."""

from typing import Any

import jax

__all__ = ["Static", "hide_static", "show_static"]


class Static:
    """A pytree node without leaves that carries hashable data.

    JAX compares tree structures when it looks for a compiled function, so data in a `Static` argument is part of the
    cache key, and a `Static` result brings what was found out while tracing back to the caller, on cache hits too.

    Args:
      value: compared and hashed.
      note: carried along, neither compared nor hashed. For what only matters in messages (paths, names): two equal
        layers then share a compiled function. A note lives as long as the cache does, so keep it small.

    A subclass is such a node as well, and gives names to the parts of its value.

    >>> import jax
    >>> jax.tree.leaves(Static(("dropout", 3)))
    []
    >>> Static(1, note="a") == Static(1, note="b")
    True
    """

    __slots__ = ("_hash", "note", "value")

    def __init_subclass__(cls) -> None:
        _register(cls)

    def __init__(self, value: Any, note: Any = None):
        self.value, self.note = value, note
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Static) and self.value == other.value)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.value)
        return self._hash

    def __repr__(self) -> str:
        return f"Static({self.value!r})"


def _register(kind: type[Static]) -> None:
    jax.tree_util.register_pytree_node(kind, lambda node: ((), node), lambda node, _: node)


_register(Static)


class _Kept(Static):
    """A leaf of a carry. Equal ones are the same; what has no hash is distinguished by its type only."""

    __slots__ = ()

    def __hash__(self) -> int:
        try:
            return super().__hash__()
        except TypeError:
            return hash(type(self.value))


class _KeptReference(_Kept):
    """A `jax.Ref` in a carry: loops of JAX do not hand references on, but their steps may see them from outside."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _KeptReference) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def hide_static(tree: Any) -> Any:
    """Returns a tree whose leaves loops of JAX can carry: others, references among them, move into the structure.

    >>> jax.tree.leaves(hide_static((1.0, "relu")))
    [1.0]
    >>> show_static(hide_static((1.0, "relu")))
    (1.0, 'relu')
    """
    return jax.tree.map(_hidden, tree)


def _hidden(x: Any) -> Any:
    if isinstance(x, jax.Ref):
        return _KeptReference(x)
    if isinstance(x, (bool, int, float, complex)) or (hasattr(x, "dtype") and not isinstance(x, type)):
        return x
    try:
        jax.typeof(x)
    except TypeError:  # texts, functions, types
        return _Kept(x)
    return x


def show_static(tree: Any) -> Any:
    """Undoes `hide_static`."""
    return jax.tree.map(lambda x: x.value if isinstance(x, _Kept) else x, tree, is_leaf=_is_kept)


def _is_kept(x: Any) -> bool:
    return isinstance(x, _Kept)
