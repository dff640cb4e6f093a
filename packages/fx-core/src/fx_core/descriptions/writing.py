"""From a model to its description."""

import contextlib
import sys
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from fx_core.descriptions.functions import written
from fx_core.descriptions.parameters import Parameter, signature_of
from fx_core.errors.descriptions import DescriptionError
from fx_core.errors.plugins import EntryLoadError
from fx_core.plugins import registry
from fx_core.plugins.registry import Face

_MISSING = object()

FIX = (
    "Describe a model that is made of registered layers, keep each argument as an attribute of its own name, "
    "or write the description by hand."
)


def describe(model: Any, face: Face) -> dict[str, Any]:
    """Returns the description of a model: what `build` makes an equal one from.

    Arguments that equal the layer's default are left out. An argument is read from the attribute of its name, or from
    the dict that the layer's method ``__describe__`` returns, for one that is kept in another way. Initializers and
    metadata of variables that a layer does not keep are left out too: they say how the model began, not what it
    computes.

    Raises:
      DescriptionError: it holds what no description can say: a layer that is not registered, a function or array of
        the user's, or an argument that the layer does not keep.
    """
    writer = _Writer(face)
    found = writer.layer(model, "")
    if writer.mistakes:
        raise DescriptionError(writer.mistakes, FIX)
    return found


class _Writer:
    def __init__(self, face: Face):
        self.face: Face = face
        self.mistakes: list[tuple[str, str]] = []
        self._names = {id(layer): name for name, layer in _loaded(face)}

    def layer(self, model: Any, place: str) -> dict[str, Any]:
        name = self._names.get(id(type(model)))
        if name is None:
            self.mistakes.append((place, f"{type(model).__name__} is no registered layer"))
            return {}
        found: dict[str, Any] = {"layer": name}
        says = getattr(model, "__describe__", dict)()
        for parameter in signature_of(type(model), self.face).parameters.values():
            at = f"{place}.{parameter.name}" if place else parameter.name
            value = says.get(parameter.name, getattr(model, parameter.name, _MISSING))
            if value is _MISSING:
                if not _only_begins(parameter):
                    self.mistakes.append((at, f"{name} keeps no attribute {parameter.name}"))
            elif not _equal(value, parameter.default):
                found[parameter.name] = self.value(value, at)
        return found

    def value(self, value: Any, place: str) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if id(type(value)) in self._names:
            return self.layer(value, place)
        if isinstance(value, Mapping):
            return {str(key): self.value(one, f"{place}.{key}") for key, one in value.items()}
        if isinstance(value, Set):
            return sorted(self.value(one, place) for one in value)
        # NNX keeps lists as modules that are sequences.
        if isinstance(value, Sequence):
            return [self.value(one, f"{place}[{i}]") for i, one in enumerate(value)]
        dtype = _dtype_name(value)
        if dtype is not None:
            return {"dtype": dtype}
        named = written(value) if callable(value) else None
        if named is None:
            what = getattr(value, "__name__", None) or type(value).__name__
            self.mistakes.append(
                (place, f"{what} is no registered layer, no function that can be named and no plain value")
            )
        return named


def _loaded(face: Face) -> list[tuple[str, type]]:
    """Returns the registered layers whose modules are imported: what a model is made of was imported with it."""
    found: list[tuple[str, type]] = []
    for name, entry in registry().layers(face).items():
        module, _, attribute = entry.target.partition(":")
        at: Any = sys.modules.get(module)
        for part in attribute.split("."):
            at = getattr(at, part, None)
        if isinstance(at, type):
            with contextlib.suppress(EntryLoadError):  # of no layer that this model could hold
                found.append((name, entry.load()))
    return found


def _only_begins(parameter: Parameter) -> bool:
    return parameter.name.endswith(("_init", "_initializer", "_metadata")) and not parameter.required


def _equal(value: Any, default: Any) -> bool:
    if value is default or _same_dtype(value, default):
        return True
    try:
        if isinstance(default, Mapping):
            return dict(value) == dict(default)
        if isinstance(default, Set):
            return set(value) == set(default)
        return type(value) is type(default) and bool(value == default)
    except (TypeError, ValueError):
        return False


def _same_dtype(value: Any, default: Any) -> bool:
    name = _dtype_name(value)
    return name is not None and name == _dtype_name(default)


def _dtype_name(value: Any) -> str | None:
    # A type is a dtype only where NumPy or JAX made it: Python's int and a user's class are none.
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, type) and issubclass(value, np.generic):
        return np.dtype(value).name
    if type(value).__module__.startswith("jax.") and isinstance(getattr(value, "dtype", None), np.dtype):
        return value.dtype.name if callable(value) and not hasattr(value, "shape") else None
    return None
