"""Attention functions of users: which arguments they take."""

import contextlib
import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["accepted_options", "takes"]


def takes(function: Callable[..., Any], name: str) -> bool:
    """Returns whether a function has a keyword argument, by name or by ``**kwargs``.

    >>> takes(lambda q, *, mask: q, "mask"), takes(lambda q, **rest: q, "mask"), takes(lambda q: q, "mask")
    (True, True, False)
    """
    names = _keywords(function)
    return names is None or name in names


def accepted_options(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of some keyword arguments that a function takes.

    >>> accepted_options(lambda q, *, mask: q, {"mask": 1, "dtype": 2})
    {'mask': 1}
    """
    names = _keywords(function)
    return {name: value for name, value in options.items() if names is None or name in names}


# Reading a signature takes longer than tracing the attention. Weakly, so that nothing that a function holds lives on.
_known: weakref.WeakKeyDictionary[Callable[..., Any], frozenset[str] | None] = weakref.WeakKeyDictionary()


def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names, or None if the function takes any."""
    try:
        return _known[function]
    except (KeyError, TypeError):
        names = _read_keywords(function)
    with contextlib.suppress(TypeError):  # no hash, or no weak reference
        _known[function] = names
    return names


def _read_keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return frozenset(parameters)
