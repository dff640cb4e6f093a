"""Carrier: how one kind of state goes through a transform, as a static shape and groups of arrays."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax

__all__ = ["Carrier", "Chosen", "Groups", "Lifted", "Outcome", "Static", "run"]

H = TypeVar("H", contravariant=True)
Groups = tuple[Any, ...]


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
        jax.tree_util.register_static(cls)

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


jax.tree_util.register_static(Static)


class Outcome(NamedTuple):
    """What a function leaves behind: the new shape, the new groups and its result, all of them pytrees.

    >>> import fx_transforms
    >>> fx_transforms.Outcome(fx_transforms.Static("shape"), (1.0,), "result").out
    'result'
    """

    shape: Static
    groups: Groups
    out: Any


class Carrier(Protocol[H]):
    """Takes state apart into groups of arrays outside a transform and puts it together inside.

    A carrier has no state of its own, so that one serves all calls. The *shape* is the hashable rest of the state, as
    a `Static`: mutability, flags, structure, counters. A group is any pytree of arrays; there are always as many
    groups as slots, on the way in and out. A group that cannot be written comes out as an empty tree.

    `fx_core.testing.CarrierSuite` tests whether a carrier keeps to this.

    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["params", "state"], [False, "state"], [True])
    >>> carrier.label(0, ())
    "variables 'params'"
    """

    def split(self, handle: H) -> tuple[Static, Groups]:
        """Takes the handle's state apart, outside the transform. Does not change the handle."""
        ...

    def merge(self, shape: Static, groups: Groups) -> Any:
        """Puts a private copy of the state together from groups, inside; it is what the user's function gets."""
        ...

    def collect(self, inner: Any, out: Any) -> Outcome:
        """Takes the state out of the copy when the user's function has returned ``out``; the copy is then dead."""
        ...

    def absorb(self, handle: H, shape: Static, groups: Groups, out: Any) -> Any:
        """Writes new groups back into the handle, outside, and returns what the caller gets for ``out``."""
        ...

    def follow(self, before: Static, after: Static) -> Static:
        """Returns the shape that the next branch starts from, when one that started with ``before`` ended with
        ``after``.
        """
        ...

    def join(self, shapes: Sequence[Static]) -> Static:
        """Returns one shape for the outcomes of several branches. Raises where they cannot be one."""
        ...

    def writes(self, shape: Static) -> Sequence[bool]:
        """For each group, whether a function may write to it at all."""
        ...

    def label(self, group: int, path: tuple[Any, ...]) -> str:
        """Names a leaf for an error message: the group's name and the leaf's place in it."""
        ...


class Chosen:
    """Takes some groups, or other entries of a tuple, out of all, and puts them back."""

    def __init__(self, indices: Sequence[int]):
        self.indices = tuple(indices)

    def take(self, items: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the chosen entries."""
        return tuple(items[i] for i in self.indices)

    def put(self, items: Sequence[Any], chosen: Sequence[Any]) -> tuple[Any, ...]:
        """Returns all entries, the chosen ones replaced."""
        new = dict(zip(self.indices, chosen))
        return tuple(new.get(i, item) for i, item in enumerate(items))

    def others(self, items: Sequence[Any]) -> tuple[Any, ...]:
        """Returns all entries, `None` for the chosen ones."""
        return tuple(None if i in self.indices else item for i, item in enumerate(items))


def run(
    carrier: Carrier[Any], fn: Callable[..., Any], shape: Static, groups: Groups, *args: Any, **kwargs: Any
) -> Outcome:
    """Calls ``fn`` inside a transform: put the state together, call, take the state out."""
    inner = carrier.merge(shape, groups)
    return carrier.collect(inner, fn(inner, *args, **kwargs))


class Lifted:
    """A function of a handle, which it changes: its state is split, goes through a function of arrays, and back.

    Args:
      fn: the function that it is made of, whose name it has.
      carrier: what splits and merges the state.
      pure: ``(shape, groups, *args) -> outcome``, the function of arrays, which can be compiled as a whole.

    >>> import jax
    >>> import fx_core
    >>> import fx_transforms
    >>> carrier = fx_transforms.ScopeCarrier(["state"], ["state"], [])
    >>> def add(scope, x):
    ...     scope.put_variable("state", "sum", scope.get_variable("state", "sum") + x)
    >>> choice = fx_transforms.cond(add, lambda scope, x: None, carrier)
    >>> compiled = fx_transforms.Lifted(choice, carrier, jax.jit(choice.pure))
    >>> scope = fx_core.Scope({"state": {"sum": 1.0}}, {}, mutable=["state"])
    >>> compiled(scope, True, 2.0)
    >>> float(scope.get_variable("state", "sum"))
    3.0
    """

    def __init__(self, fn: Callable[..., Any], carrier: Carrier[Any], pure: Callable[..., Outcome]):
        functools.update_wrapper(self, fn, updated=())
        self.carrier, self.pure = carrier, pure

    def __call__(self, handle: Any, *args: Any) -> Any:
        """Calls the function."""
        shape, groups = self.carrier.split(handle)
        return self.carrier.absorb(handle, *self.pure(shape, groups, *args))
