"""Functions that other functions made of arguments, and that can be compared and pickled by these."""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Made", "made_by_arguments"]

Factory = TypeVar("Factory", bound=Callable[..., Callable[..., Any]])


class Made:
    """A function that a factory made: equal to those that it made of equal arguments, and pickled as the call.

    Modules hold initializers among their settings: they have to be equal after a way through another process.
    """

    __slots__ = ("__weakref__", "_call", "_hash", "function")

    def __init__(self, function: Callable[..., Any], factory: Callable[..., Any], arguments: tuple[Hashable, ...]):
        self.function = function
        self._call = (factory, arguments)
        self._hash = hash(self._call)

    @property
    def __name__(self) -> str:
        """The name of the function."""
        return self.function.__name__

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self.function  # where `inspect` finds the signature

    @property
    def factory(self) -> Callable[..., Any]:
        """What made the function."""
        return self._call[0]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function that was made."""
        return self.function(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Made) and self._call == other._call)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        factory, arguments = self._call
        return f"{factory.__name__}({', '.join(map(repr, arguments))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call


def made_by_arguments(factory: Factory) -> Factory:
    """Lets a factory give `Made`; where it gets arguments without a hash, the function itself.

    Args:
      factory: a function of a module, which pickle finds by name.
    """
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def make(*args: Any, **kwargs: Any) -> Any:
        function = factory(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = bound.args
        try:
            return Made(function, make, arguments)
        except TypeError:  # an argument is an array or a list
            return function

    return make  # type: ignore[return-value]
