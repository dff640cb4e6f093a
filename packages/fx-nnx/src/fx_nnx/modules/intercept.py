"""Interceptors of method calls.

Calls of modules are ordinary Python calls, which cost nothing extra. To see them, the methods of the classes in a model
are replaced for the duration of a block; the replacements look into a context variable, so that other threads, and
blocks that are nested, see only what is theirs.
"""

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fx_nnx.modules.module import Module

__all__ = ["watched"]

Watcher = Callable[[Any, str, tuple[Any, ...], dict[str, Any], Callable[[], Any]], Any]
Watch = tuple[tuple[type[Any], ...], Watcher]

_watchers: contextvars.ContextVar[tuple[Watch, ...]] = contextvars.ContextVar("fx_nnx_watchers", default=())
_lock = threading.Lock()
# Class to the methods as they were, and how many blocks want them replaced.
_replaced: dict[type[Any], tuple[dict[str, Any], list[int]]] = {}


@contextlib.contextmanager
def watched(classes: Iterable[type[Any]], watcher: Watcher) -> Iterator[None]:
    """Lets a function see each call of a public method of some classes of modules.

    Args:
      classes: of the modules; what they inherit from their bases, up to `Module`, is watched too.
      watcher: called as ``watcher(module, name, args, kwargs, proceed)`` instead of the method; it returns
        ``proceed()``, or something else.
    """
    classes = tuple(classes)
    bases = {base for cls in classes for base in cls.__mro__ if issubclass(base, Module) and base is not Module}
    for base in bases:
        _replace(base)
    token = _watchers.set((*_watchers.get(), (classes, watcher)))
    try:
        yield
    finally:
        _watchers.reset(token)
        for base in bases:
            _restore(base)


def _replace(cls: type[Any]) -> None:
    with _lock:
        if cls in _replaced:
            _replaced[cls][1][0] += 1
            return
        methods = {name: value for name, value in vars(cls).items() if _is_method(name, value)}
        _replaced[cls] = methods, [1]
        for name, method in methods.items():
            setattr(cls, name, _watchable(name, method))


def _restore(cls: type[Any]) -> None:
    with _lock:
        methods, users = _replaced[cls]
        users[0] -= 1
        if not users[0]:
            del _replaced[cls]
            for name, method in methods.items():
                setattr(cls, name, method)


def _is_method(name: str, value: Any) -> bool:
    if not callable(value) or isinstance(value, type | staticmethod | classmethod) or hasattr(Module, name):
        return name == "__call__"
    # Functions, and what decorators make of them; fields are something else.
    return not name.startswith("_") and hasattr(type(value), "__get__")


def _watchable(name: str, method: Callable[..., Any]) -> Any:
    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        proceed = functools.partial(method, self, *args, **kwargs)
        for classes, watcher in _watchers.get():
            if isinstance(self, classes):
                proceed = functools.partial(watcher, self, name, args, kwargs, proceed)
        return proceed()

    return wrapper
