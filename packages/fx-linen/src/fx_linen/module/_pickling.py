"""Settings of modules that pickle does not find by themselves: the functions that JAX compiles."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from fx_core.frozen_dict import FrozenDict

from fx_linen.module._tree import ATOMS

__all__ = ["portable", "restored"]

_LIBRARIES = {"jax.nn": jax.nn, "jax.numpy": jnp}
_COMPILED = (type(jax.nn.sigmoid), type(jax.nn.relu))


class _Named(NamedTuple):
    library: str
    name: str


class _Partial(NamedTuple):
    func: Any
    args: Any
    keywords: Any


def portable(value: Any) -> Any:
    """Put names in place of the functions of `jax.nn` and `jax.numpy`, in containers and partial functions, too.

    Pickle refuses them, as their names lead to the compiled function, and what it is about to write is the plain one.
    """
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
    """Undo `portable`."""
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
