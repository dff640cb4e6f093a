"""Layers by name, from arguments that are Python values."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from fx_core.descriptions.parameters import Signature, signature_of
from fx_core.errors.descriptions import DescriptionError
from fx_core.plugins import registry
from fx_core.plugins.registry import Face


def make_layer(name: str, face: Face, arguments: Mapping[str, Any], implied: Mapping[str, Any] | None = None) -> Any:
    """Returns the layer that a plugin registered under a name, made from arguments.

    Args:
      name: name of the entry, such as ``"Dense"`` or ``"acme.GatedMLP"``.
      face: ``"linen"`` or ``"nnx"``.
      arguments: keyword arguments of the layer; a list for one that takes any number of positional ones.
      implied: what the place gives: ``rngs`` for NNX.

    Raises:
      UnknownEntryError: no plugin registers it; the text has the nearest names and what would bring it.
      EntryLoadError: it cannot be imported.
      DescriptionError: an argument is missing, or the layer has none of that name.
    """
    layer = registry().layers(face)[name].load()
    signature = signature_of(layer, face)
    mistakes = name_faults(name, signature, arguments, implied or {})
    if mistakes:
        raise DescriptionError([(name, mistake) for mistake in mistakes])
    return call_layer(layer, signature, arguments, implied or {})


def call_layer(layer: type, signature: Signature, arguments: Mapping[str, Any], implied: Mapping[str, Any]) -> Any:
    """Makes a layer; the list for a repeated parameter becomes its positional arguments."""
    named = {key: value for key, value in implied.items() if key in signature.implied and value is not None}
    positional: Iterable[Any] = ()
    for name, value in arguments.items():
        parameter = signature.parameters.get(name)
        if parameter is not None and parameter.repeated:
            positional = value
        else:
            named[name] = value
    return layer(*positional, **named)


def name_faults(
    layer: str, signature: Signature, arguments: Mapping[str, Any], implied: Mapping[str, Any]
) -> list[str]:
    """Returns what is wrong with the names of arguments: unknown ones, and required ones that are not there.

    Args:
      layer: name of the layer, for the text.
      signature: what it takes.
      arguments: what is given, by name.
      implied: what the place gives, by name; None for what it does not give.
    """
    faults: list[str] = []
    for name in arguments:
        if name in signature.implied:
            faults.append(f"{name} is given where the model is built, not among the arguments of {layer}.")
        elif name not in signature.parameters and not signature.any_name:
            near = difflib.get_close_matches(name, signature.parameters, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            faults.append(f"{layer} has no parameter {name!r}.{hint} It is {layer}{signature}.")
    missing = [p.name for p in signature.parameters.values() if p.required and p.name not in arguments]
    if missing:
        faults.append(f"{layer} needs {', '.join(missing)}. It is {layer}{signature}.")
    for name, needed in signature.implied.items():
        if needed and implied.get(name) is None:
            faults.append(f"{layer} needs {name}=, which is given where the model is built.")
    return faults
