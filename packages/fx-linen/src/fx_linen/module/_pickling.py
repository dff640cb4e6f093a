"""What pickle does not find by its name: functions that JAX compiles, and classes that transforms make."""

import copyreg
import dataclasses
import functools
import uuid
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from fx_core.frozen_dict import FrozenDict

from fx_linen.module._tree import ATOMS

__all__ = ["Recipe", "blank", "portable", "restored"]

# A class that is pickled by value, as cloudpickle does for those of a script, takes its dataclass fields along, and
# they compare with this object: a copy of it would be a default.
copyreg.pickle(type(dataclasses.MISSING), lambda _: "MISSING")

_LIBRARIES = {"jax.nn": jax.nn, "jax.numpy": jnp}
_COMPILED = (type(jax.nn.sigmoid), type(jax.nn.relu))


class _Named(NamedTuple):
    library: str
    name: str


class _Partial(NamedTuple):
    func: Any
    args: Any
    keywords: Any


class Recipe:
    """How a class was made by a transform. It is pickled in place of the class, which no module holds by its name.

    Args:
      cls: the class.
      make: a function of a module of fx that makes such a class.
      args: its arguments.
    """

    __slots__ = ("args", "cls", "make", "token")

    def __init__(self, cls: type, make: Callable[..., type], args: tuple[Any, ...]):
        self.cls, self.make, self.args = cls, make, args
        self.token: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self.token is None:
            self.known_as(uuid.uuid4().hex)
        return _recipe_of, (self.token, self.make, portable(self.args))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recipe":
        return self

    def known_as(self, token: str) -> None:
        """What is pickled with this token has this class, so modules are equal to those that they were pickled from."""
        self.token = token
        _CLASSES[token] = self.cls


_CLASSES: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def _recipe_of(token: str, make: Callable[..., type], args: tuple[Any, ...]) -> Any:
    cls = _CLASSES.get(token)
    if cls is None:
        cls = make(*restored(args))
        cls._recipe.known_as(token)
    return cls._recipe


def blank(recipe: Recipe) -> Any:
    """Returns an instance without attributes."""
    return object.__new__(recipe.cls)


def portable(value: Any) -> Any:
    """Puts something that can be pickled in place of what cannot, in containers and partial functions, too.

    That is names for the functions of `jax.nn` and `jax.numpy`: pickle refuses them, as their names lead to the
    compiled function, and what it is about to write is the plain one. And recipes for classes that transforms made.
    """
    if isinstance(value, type):
        return value.__dict__.get("_recipe", value)
    if isinstance(value, _COMPILED):
        name = getattr(value, "__name__", "")
        for library, functions in _LIBRARIES.items():
            if getattr(functions, name, None) is value:
                return _Named(library, name)
        return value
    if type(value) is functools.partial:
        return _Partial(*map(portable, (value.func, value.args, value.keywords)))
    return _map(portable, value)


def restored(value: Any) -> Any:
    """Undoes `portable`."""
    if isinstance(value, Recipe):
        return value.cls
    if isinstance(value, _Named):
        return getattr(_LIBRARIES[value.library], value.name)
    if isinstance(value, _Partial):
        return functools.partial(restored(value.func), *restored(value.args), **restored(value.keywords))
    return _map(restored, value)


def _map(fun: Any, value: Any) -> Any:
    kind: Any = type(value)
    if kind in ATOMS:
        return value
    if kind in (list, tuple):
        return kind(map(fun, value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*map(fun, value))
    if isinstance(value, (dict, FrozenDict)) and kind in (dict, FrozenDict):
        return kind({key: fun(item) for key, item in value.items()})
    return value
