"""Functions given to transforms, the modules that they are bound to, and the functions that transforms give."""

import functools
from collections.abc import Callable, Iterator, Sequence
from types import MethodType
from typing import Any, NamedTuple

import jax

from fx_nnx.graph.kinds import is_node

__all__ = ["Target", "Targets", "holds_nodes", "named", "remember_target", "remembered_target", "transformed"]

Make = Callable[[Iterator[Any]], Any]
"""Makes a function out of other modules in the place of those that it is bound to."""


class Target:
    """A function given to a transform. What it is bound to goes through the transform like an argument.

    That is the module of a method, a module that is called itself, and the modules in a `functools.partial`; else the
    values of their variables would be constants of what is compiled.

    Args:
      f: the function.

    Attributes:
      bound: the modules that it is bound to.
    """

    __slots__ = ("_make", "bound", "f")

    def __init__(self, f: Callable[..., Any]):
        self.f = f
        self.bound: tuple[Any, ...]
        self._make: Make | None
        self.bound, self._make = _parts(f) or ((), None)

    def tree(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Returns what goes through the transform: arguments, those by name, and what the function is bound to."""
        # Whether a function is bound to something never changes, but the lists in a partial may.
        if self._make is None:
            return args, kwargs
        if isinstance(self.f, functools.partial):
            self.bound, self._make = _parts(self.f) or ((), None)
        return args, kwargs, self.bound

    def call(self, args: Sequence[Any], kwargs: dict[str, Any], bound: Sequence[Any] = ()) -> Any:
        """Calls the function, bound to other modules."""
        f = self.f if self._make is None else self._make(iter(bound))
        return f(*args, **kwargs)


def named(f: Callable[..., Any], call: Callable[..., Any]) -> Any:
    """Returns a call the name and documentation of the function that it stands for."""
    names = [name for name in functools.WRAPPER_ASSIGNMENTS if hasattr(f, name)]
    return functools.update_wrapper(call, f, names, updated=() if is_node(f) else functools.WRAPPER_UPDATES)


def transformed(target: Target, call: Callable[..., Any]) -> Any:
    """Returns the function that a transform makes, of one of what goes through the transform.

    Args:
      target: what the transform got.
      call: a function of arguments, those by name and, if there is any, what the target is bound to.
    """
    made = named(target.f, lambda *args, **kwargs: call(*target.tree(args, kwargs)))
    return remember_target(made, target, call)


class Targets:
    """Several functions for the same arguments, such as the branches of a conditional.

    Args:
      functions: the functions.

    Attributes:
      calls: for each a function of arguments, those by name, and what all of them are bound to.
    """

    __slots__ = ("_bound", "calls")

    def __init__(self, functions: Sequence[Callable[..., Any]]):
        targets = [Target(f) for f in functions]
        self._bound: list[Any] = []
        self.calls: list[Callable[..., Any]] = []
        for target in targets:
            first = len(self._bound)
            self._bound += target.bound
            self.calls.append(_of_part(target, slice(first, len(self._bound))))

    def tree(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """Returns what goes through a transform, see `Target.tree`."""
        return (args, {}, tuple(self._bound)) if self._bound else (args, {})


def _of_part(target: Target, part: slice) -> Callable[..., Any]:
    return lambda args, kwargs, bound=(): target.call(args, kwargs, bound[part])


class _Remembered(NamedTuple):
    """What a transform notes on the function that it gives.

    Attributes:
      owner: that function; what wraps it may have copied its attributes.
      target: what the transform got.
      call: the transform, as a function of arguments, those by name, and what the function is bound to.
    """

    owner: Any
    target: Target
    call: Callable[..., Any]


_ATTRIBUTE = "_fx_nnx_target"


def remember_target(made: Any, target: Target, call: Callable[..., Any]) -> Any:
    """Lets other transforms find what a transformed function is bound to."""
    if target.bound:
        setattr(made, _ATTRIBUTE, _Remembered(made, target, call))
    return made


def remembered_target(f: Any) -> _Remembered | None:
    """Returns what a transform noted on a function, if it is one that it gave."""
    found = getattr(f, _ATTRIBUTE, None) if callable(f) and not is_node(f) else None
    return found if type(found) is _Remembered and found.owner is f else None


def _parts(f: Any) -> tuple[tuple[Any, ...], Make] | None:
    """Give the modules that a function is bound to, and how to bind it to others; None if there are none."""
    if is_node(f):
        return (f,), next
    if isinstance(f, MethodType):
        return ((f.__self__,), lambda nodes: MethodType(f.__func__, next(nodes))) if is_node(f.__self__) else None
    if isinstance(f, functools.partial):
        return _parts_of_partial(f)
    found = remembered_target(f)
    if found is None:
        return None
    count = len(found.target.bound)
    return found.target.bound, lambda nodes: _rebound(found.call, [next(nodes) for _ in range(count)])


def _rebound(call: Callable[..., Any], bound: Sequence[Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: call(args, kwargs, bound)


def _parts_of_partial(f: Any) -> tuple[tuple[Any, ...], Make] | None:
    leaves, treedef = jax.tree.flatten((f.args, f.keywords), is_leaf=is_node)
    parts = [_parts(f.func), *map(_parts, leaves)]
    if not any(parts):
        return None

    def make(nodes: Iterator[Any]) -> Any:
        func, *new = [x if part is None else part[1](nodes) for x, part in zip((f.func, *leaves), parts)]
        args, keywords = jax.tree.unflatten(treedef, new)
        return functools.partial(func, *args, **keywords)

    return tuple([node for part in parts if part is not None for node in part[0]]), make


def holds_nodes(value: Any) -> bool:
    """Returns whether a value has modules or variables in it, or is a function that is bound to some."""
    return _parts(value) is not None or (
        not callable(value) and any(_parts(leaf) is not None for leaf in jax.tree.leaves(value, is_leaf=is_node))
    )
