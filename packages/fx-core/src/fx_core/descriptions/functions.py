"""The functions that a description can name: activations, and initializers with their arguments."""

import inspect
import weakref
from collections.abc import Callable
from typing import Any

from fx_core.ops import activations, initializers

FUNCTIONS: dict[str, Callable[..., Any]] = {name: getattr(activations, name) for name in activations.__all__}
"""Functions by name, those of `fx_core.ops.activations`."""

# The layers' own defaults, and a wrapper of another initializer, are no functions with plain arguments.
INITIALIZERS: dict[str, Callable[..., Any]] = {
    name: getattr(initializers, name)
    for name in initializers.__all__
    if name[0].islower() and not name.startswith("default_") and name != "flattened"
}
"""Initializers by name, those of `fx_core.ops.initializers`."""

_PLAIN = frozenset({"zeros", "ones"})
"""Initializers themselves; the others are functions that make one."""

_written: weakref.WeakKeyDictionary[Callable[..., Any], dict[str, Any]] = weakref.WeakKeyDictionary()


def initializer_fault(name: str, arguments: dict[str, Any]) -> str | None:
    """Says what is wrong with the arguments of an initializer; None if nothing is."""
    if name in _PLAIN:
        return f"{name} takes no arguments" if arguments else None
    try:
        inspect.signature(INITIALIZERS[name]).bind(**arguments)
    except TypeError as error:
        return str(error)
    return None


def make_initializer(name: str, arguments: dict[str, Any]) -> Callable[..., Any]:
    """Returns an initializer by name, which `initializer_name` finds again."""
    made = INITIALIZERS[name] if name in _PLAIN else INITIALIZERS[name](**arguments)
    if name not in _PLAIN:
        _written[made] = {"initializer": name, **arguments}
    return made


def written(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Returns what a description says for a function; None for one that no description can name."""
    for name in sorted(_PLAIN):
        if function is INITIALIZERS[name]:
            return {"initializer": name}
    # Some functions have two names: the first one in the alphabet is written.
    for name in sorted(FUNCTIONS):
        if function is FUNCTIONS[name]:
            return {"function": name}
    try:
        return _written.get(function)
    except TypeError:
        return None
