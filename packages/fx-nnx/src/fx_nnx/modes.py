"""Settings of a thread or task: how models are looked at when a call does not say."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar, ParamSpec, TypeVar

from fx_nnx.errors import mode_value

__all__ = [
    "Mode",
    "set_graph_mode",
    "set_graph_updates",
    "use_eager_sharding",
    "using_eager_sharding",
]

P = ParamSpec("P")
R = TypeVar("R")


class Mode:
    """A setting: to be called, used with ``with``, or put on a function as a decorator.

    A call changes the setting from there on, in its thread or task; ``with`` undoes it at the end of the block, and a
    decorator changes it for the calls of a function.

    Args:
      value: the new value.

    Raises:
      ArgumentTypeError: it is not a bool.
    """

    __slots__ = ("_before", "value")

    _stack: ClassVar[ContextVar[tuple[bool, ...]]]
    _default: ClassVar[bool]

    def __init_subclass__(cls, *, default: bool = True):
        cls._stack = ContextVar(f"fx_nnx_{cls.__name__}", default=())
        cls._default = default

    def __init__(self, value: bool, /):
        if not isinstance(value, bool):
            raise mode_value(type(self).__name__, value)
        self.value = value
        self._before = self._stack.get()
        self._stack.set((*self._before[:-1], value))

    def __enter__(self) -> None:
        self._stack.set((*self._before, self.value))

    def __exit__(self, *_: Any) -> None:
        self._stack.set(self._before)

    def __call__(self, f: Callable[P, R]) -> Callable[P, R]:
        """Decorates a function; the setting outside stays as it was."""
        self._stack.set(self._before)

        @functools.wraps(f)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            with type(self)(self.value):
                return f(*args, **kwargs)

        return wrapped

    @classmethod
    def get_default(cls) -> bool:
        """Returns the value where nothing was set."""
        return cls._default

    @classmethod
    def get_stack(cls) -> list[bool]:
        """Returns the values set so far, the one that counts last."""
        return list(cls._stack.get())

    @classmethod
    def current_value(cls) -> bool:
        """Returns the value that counts now."""
        stack = cls._stack.get()
        return stack[-1] if stack else cls._default

    @classmethod
    def resolve(cls, given: bool | None) -> bool:
        """Returns what a call was given, or the value that counts now."""
        return cls.current_value() if given is None else given


class set_graph_mode(Mode):  # noqa: N801  # the name of the reference library: it is used as a function
    """The default of whether models are graphs, where functions have no ``graph`` argument: True, or False for trees.

    A tree must not hold an object on two paths: functions refuse it instead of keeping track.

    >>> import fx_nnx as nnx
    >>> shared = nnx.Param(1.0)
    >>> with nnx.set_graph_mode(False):
    ...     nnx.split(nnx.Dict(a=shared, b=shared))
    Traceback (most recent call last):
    fx_nnx.errors.SharedReferenceError: Param is reachable on two paths...
    """


class set_graph_updates(Mode):  # noqa: N801
    """The default of whether transforms may change structures, where they have no ``graph_updates`` argument.

    With False, only values of variables come out of a transform, and functions like `fx_nnx.split_rngs` give a changed
    copy of the model instead of changing it.

    >>> with set_graph_updates(False):
    ...     set_graph_updates.current_value()
    False
    """


class use_eager_sharding(Mode):  # noqa: N801
    """The default of whether variables with ``out_sharding`` metadata are laid out on the mesh when they are made.

    >>> with use_eager_sharding(False):
    ...     using_eager_sharding()
    False
    """


def using_eager_sharding() -> bool:
    """Returns whether new variables are laid out on the mesh when they are made.

    >>> import fx_nnx as nnx
    >>> with nnx.use_eager_sharding(False):
    ...     nnx.using_eager_sharding()
    False
    """
    return use_eager_sharding.current_value()
