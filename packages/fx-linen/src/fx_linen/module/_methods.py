"""Markers for methods, and the wrapping of a class's methods when it is created."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from fx_core.errors import DescriptorAttributeError

from fx_linen.module._base import ModuleBase
from fx_linen.module._call import call_compact, call_name_scope, call_plain, call_setup, ensure_setup

__all__ = ["compact", "compact_name_scope", "nowrap", "wrap_class", "wrap_method_once"]

F = TypeVar("F", bound=Callable[..., Any])

_UNTOUCHED = frozenset({
    "__init__", "__post_init__", "__repr__", "__str__", "__eq__", "__ne__", "__hash__", "__getattr__",
    "__getattribute__", "__setattr__", "__delattr__", "__dir__", "__getstate__", "__setstate__", "__reduce__",
    "__reduce_ex__", "__copy__", "__deepcopy__", "__sizeof__", "__format__", "__del__", "__replace__",
    "__annotate__", "__annotate_func__", "__dict__", "__weakref__",
})  # fmt: skip
"""Methods that Python calls on half-made, unbound or finished modules."""

_MARK = "method_handler_wrapped"
"""The mark of a wrapped method, the one that libraries look for in methods of Linen; ``__wrapped__`` is the method."""


def compact(fun: F) -> F:
    """Lets a method make its submodules and variables where it uses them.

    Names count up from zero in every call, so that calling the module again uses the same parameters.

    Args:
      fun: a method of a `Module`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Scale(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return x * self.param("scale", lambda key: jnp.full((), 2.0))
    >>> Scale().init(jax.random.key(0), jnp.ones(3))
    {'params': {'scale': Array(2., dtype=float32...)}}
    """
    fun.compact = True  # type: ignore[attr-defined]
    return fun


def nowrap(fun: F) -> F:
    """Leaves a method alone: no setup before it, no name in profiles, no interceptors, no capture.

    Submodules that it makes belong to the method that calls it. Useful for helpers and for methods that must work on
    unbound modules.

    Args:
      fun: a method of a `Module`.

    >>> import fx_linen as nn
    >>> class Network(nn.Module):
    ...     features: int = 2
    ...
    ...     @nn.nowrap
    ...     def make_layer(self):
    ...         return nn.Dense(self.features)
    >>> Network().make_layer().features  # works without init or apply
    2
    """
    fun.nowrap = True  # type: ignore[attr-defined]
    return fun


def compact_name_scope(fun: F) -> F:
    """Lets a method make submodules in a scope of its own, named after the method.

    A module may have any number of them, next to a compact method or without one. Only submodules go to the scope of
    the method; parameters and variables still belong to the module.

    Args:
      fun: a method of a `Module`.

    >>> import jax, jax.numpy as jnp
    >>> import fx_linen as nn
    >>> class Coder(nn.Module):
    ...     @nn.compact_name_scope
    ...     def encode(self, x):
    ...         return nn.Dense(2)(x)
    ...
    ...     def __call__(self, x):
    ...         return self.encode(x)
    >>> variables = Coder().init(jax.random.key(0), jnp.ones(3))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'encode': {'Dense_0': {'bias': (2,), 'kernel': (3, 2)}}}}
    """
    fun.compact_name_scope = True  # type: ignore[attr-defined]
    return fun


def wrap_method_once(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a method so that it runs as a module method; one that is wrapped already is returned as it is.

    A wrapped method has the attribute ``method_handler_wrapped``, and ``__wrapped__`` is what it wraps. Classes wrap
    their methods when they are created; libraries that replace a method of a class wrap the new one.

    Args:
      fun: a function whose first argument is the module.

    >>> import fx_linen as nn
    >>> class Network(nn.Module):
    ...     def __call__(self, x):
    ...         return x
    >>> Network.__call__ = nn.wrap_method_once(lambda self, x: x + 1)
    >>> Network().apply({}, 1)
    2
    """
    if hasattr(fun, _MARK) or hasattr(fun, "nowrap"):
        return fun
    # The wrappers name only functions of importable modules: that keeps classes of ``__main__`` cloudpickle-able.
    if hasattr(fun, "compact_name_scope"):

        @functools.wraps(fun)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return call_name_scope(fun, self, args, kwargs)

    elif hasattr(fun, "compact"):

        @functools.wraps(fun)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return call_compact(fun, self, args, kwargs)

    elif getattr(fun, "__name__", None) == "setup":

        @functools.wraps(fun)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return call_setup(fun, self, args, kwargs)

    else:

        @functools.wraps(fun)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return call_plain(fun, self, args, kwargs)

    setattr(method, _MARK, True)
    return method


class WrappedDescriptor:
    """A property or other descriptor of a module that sees what ``setup`` made."""

    def __init__(self, wrapped: Any):
        self.wrapped = wrapped
        self.__doc__ = wrapped.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        if hasattr(self.wrapped, "__set_name__"):
            self.wrapped.__set_name__(owner, name)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if isinstance(instance, ModuleBase) and "_state" in instance.__dict__:
            ensure_setup(instance, instance._state)
        try:
            return self.wrapped.__get__(instance, owner)
        except AttributeError as error:
            # Python would now ask __getattr__ for the property itself and blame that name.
            raise DescriptorAttributeError() from error

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.wrapped, name)


class WrappedDataDescriptor(WrappedDescriptor):
    """A descriptor that can be assigned or deleted, too."""

    def __set__(self, instance: Any, value: Any) -> None:
        self.wrapped.__set__(instance, value)

    def __delete__(self, instance: Any) -> None:
        self.wrapped.__delete__(instance)


def wrap_class(cls: Any) -> None:
    """Wraps the methods and descriptors that a class brings, once and for all.

    Args:
      cls: the new class, a dataclass: the defaults of its fields are no methods.
    """
    fields = {field.name for field in dataclasses.fields(cls)}
    for name, value in list(cls.__dict__.items()):
        if name in fields or name in _UNTOUCHED or isinstance(value, (type, staticmethod, classmethod)):
            continue
        if not hasattr(type(value), "__get__") or inspect.ismemberdescriptor(value):
            continue
        if callable(value):
            wrapped: Any = wrap_method_once(value)
        elif isinstance(value, WrappedDescriptor):
            wrapped = value
        elif hasattr(type(value), "__set__") or hasattr(type(value), "__delete__"):
            wrapped = WrappedDataDescriptor(value)
        else:
            wrapped = WrappedDescriptor(value)
        if wrapped is not value:
            setattr(cls, name, wrapped)
