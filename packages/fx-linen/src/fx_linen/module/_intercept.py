"""Running code around every method call."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

from fx_linen.module._base import ModuleBase
from fx_linen.module._context import context

__all__ = ["Interceptor", "InterceptorContext", "intercept_methods", "run_intercepted"]


@dataclasses.dataclass(frozen=True)
class InterceptorContext:
    """Which call an interceptor sees.

    Attributes:
      module: the module whose method is called.
      method_name: the method's name.
      orig_method: the method bound to the module, without the interceptors.

    >>> import fx_linen as nn
    >>> class Half(nn.Module):
    ...     def __call__(self, x):
    ...         return x / 2
    >>> def show(next_fun, args, kwargs, context):
    ...     print(type(context.module).__name__, context.method_name)
    ...     return next_fun(*args, **kwargs)
    >>> with nn.intercept_methods(show):
    ...     Half().apply({}, 3.0)
    Half __call__
    1.5
    """

    module: Any
    method_name: str
    orig_method: Callable[..., Any]


Interceptor = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], InterceptorContext], Any]


@contextlib.contextmanager
def intercept_methods(interceptor: Interceptor) -> Iterator[None]:
    """Runs ``interceptor`` around every call of a module method within a block.

    The interceptor gets the rest of the call, its arguments and an `InterceptorContext`; it decides whether and how to
    go on, and its result is the call's. Blocks nest: the outer interceptor sees a call first. ``setup`` counts as a
    method, what is marked `nowrap` does not.

    Args:
      interceptor: called as ``interceptor(next_fun, args, kwargs, context)``.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Halve(nn.Module):
    ...     def __call__(self, x):
    ...         return x / 2
    >>> def double(next_fun, args, kwargs, context):
    ...     return 2 * next_fun(*args, **kwargs)
    >>> with nn.intercept_methods(double):
    ...     float(Halve().apply({}, 3.0))
    3.0
    """
    context.interceptors.append(interceptor)
    try:
        yield
    finally:
        context.interceptors.pop()


def run_intercepted(fun: Callable[..., Any], module: ModuleBase, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls the method through this thread's interceptors, the outermost first."""
    original = functools.partial(fun, module)
    call = original
    info = InterceptorContext(module, fun.__name__, original)
    for interceptor in reversed(context.interceptors):
        call = functools.partial(_step, interceptor, call, info)
    return call(*args, **kwargs)


def _step(interceptor: Interceptor, following: Callable[..., Any], info: InterceptorContext, *args: Any, **kwargs: Any):
    return interceptor(following, args, kwargs, info)
