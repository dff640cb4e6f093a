"""Methods of bridge modules: who is running, and whether submodules get names."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fx_bridge.context import ModuleStackEntry, stack

__all__ = ["compact", "entered", "is_wrapped", "wrap_method"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "_fx_bridge_wrapped"


def compact(f: F) -> F:
    """Lets a method of a bridge module make its submodules and variables where it uses them.

    Submodules are named by their class and a number that starts at zero in every call, so that calling a module again
    uses the same variables.

    >>> import jax, jax.numpy as jnp
    >>> from fx_bridge import Module
    >>> class Scale(Module):
    ...     @compact
    ...     def __call__(self, x):
    ...         return x * self.param("scale", jax.nn.initializers.ones, ())
    >>> Scale().init(jax.random.key(0), 3.0)
    {'params': {'scale': Array(1., dtype=float32)}}

    Args:
      f: the method.
    """
    return _wrapped(f, in_compact=True)


def wrap_method(f: F) -> F:
    """Lets a method be seen by `fx_bridge.current_module`; one that is compact stays so."""
    return f if is_wrapped(f) else _wrapped(f, in_compact=False)


def is_wrapped(f: Any) -> bool:
    """Returns whether a method is wrapped already."""
    return getattr(f, _MARK, False)


def _wrapped(f: Any, *, in_compact: bool) -> Any:
    @functools.wraps(f)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._bridge_prepare()
        if in_compact and stack.entries and stack.entries[-1].module is self and stack.entries[-1].in_compact:
            return f(self, *args, **kwargs)  # one compact method calls another: names go on
        with entered(self, in_compact=in_compact):
            return f(self, *args, **kwargs)

    setattr(method, _MARK, True)
    return method


@contextmanager
def entered(module: Any, *, in_compact: bool = False, in_setup: bool = False) -> Iterator[ModuleStackEntry]:
    """Within the block, a module is running; None stands for code that is no method of a bridge module."""
    entry = ModuleStackEntry(module, in_compact, in_setup)
    stack.entries.append(entry)
    try:
        yield entry
    finally:
        stack.entries.pop()
