"""Pytree nodes whose identity counts: objects with state, where two places may hold one object.

JAX takes a pytree apart by value: an object in two places comes back as two. Whoever takes trees apart and puts them
together again for people, as checkpoints do, asks here what has to come back as one.
"""

from typing import Any, Literal

__all__ = ["Identity", "identity_of"]

Identity = Literal["object", "variable"]


def identity_of(node: Any) -> Identity | None:
    """Returns whether the identity of a pytree node counts, by the attribute ``__fx_identity__`` of its class.

    Returns:
      ``"object"`` for one that owns what is below it, such as a module: what it holds in two places is one thing.
      ``"variable"`` for one that is shared where objects hold it, and a mere value where it stands alone, as variables
      in a state do. None for all others, whose identity says nothing.

    >>> identity_of({"a": 1}) is None
    True
    """
    return getattr(type(node), "__fx_identity__", None)
