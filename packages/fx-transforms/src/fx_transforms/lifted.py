"""Lifted functions: what transforms of functions of state give."""

import functools
from collections.abc import Callable
from typing import Any

from fx_transforms.carrier import Carrier, Outcome

__all__ = ["Lifted"]


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
