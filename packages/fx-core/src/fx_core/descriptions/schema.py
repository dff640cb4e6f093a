"""A JSON Schema of all layers, for editors and for checks outside of Python."""

import typing
from typing import Any

from fx_core.descriptions.functions import FUNCTIONS, INITIALIZERS
from fx_core.descriptions.parameters import (
    Parameter,
    alternatives,
    items_of,
    signature_of,
    takes_callables,
    values_of,
)
from fx_core.errors import EntryLoadError
from fx_core.plugins import registry
from fx_core.plugins.registry import Face

_SCALARS: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def schema(face: Face) -> dict[str, Any]:
    """Returns the JSON Schema (2020-12) of the descriptions of a face, with every layer that is installed.

    A layer that cannot be imported is left out: `fx plugins doctor` says why.

    >>> schema("linen")["$schema"]
    'https://json-schema.org/draft/2020-12/schema'
    """
    layers: dict[str, Any] = {}
    for name, entry in registry().layers(face).items():
        try:
            layers[name] = _layer(name, entry.summary, entry.load(), face)
        except EntryLoadError:
            continue
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A model of fx, built from layers ({face})",
        "$ref": "#/$defs/layer",
        "$defs": {
            "layer": {"anyOf": [{"$ref": f"#/$defs/layers/{name}"} for name in layers]},
            "function": _named("function", sorted(FUNCTIONS), extra=False),
            "initializer": _named("initializer", sorted(INITIALIZERS), extra=True),
            "dtype": {
                "type": "object",
                "properties": {"dtype": {"type": "string"}},
                "required": ["dtype"],
                "additionalProperties": False,
            },
            "layers": layers,
        },
    }


def _named(kind: str, names: list[str], *, extra: bool) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {kind: {"enum": names}},
        "required": [kind],
        "additionalProperties": extra,
    }


def _layer(name: str, summary: str, layer: type, face: Face) -> dict[str, Any]:
    signature = signature_of(layer, face)
    return {
        "type": "object",
        "description": summary,
        "properties": {"layer": {"const": name}, **{p.name: _parameter(p) for p in signature.parameters.values()}},
        "required": ["layer", *(p.name for p in signature.parameters.values() if p.required)],
        "additionalProperties": signature.any_name,
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found = _type(parameter.annotation)
    found = {"type": "array", "items": found} if parameter.repeated else found
    plain = parameter.default is None or isinstance(parameter.default, (bool, int, float, str))
    return {**found, "default": parameter.default} if plain and not parameter.repeated else found


def _type(annotation: Any) -> dict[str, Any]:
    members = [_member(one) for one in alternatives(annotation)]
    # A member that allows everything allows what the others do.
    if {} in members:
        return {}
    return members[0] if len(members) == 1 else {"anyOf": members}


def _member(annotation: Any) -> dict[str, Any]:
    if annotation in _SCALARS:
        return {"type": _SCALARS[annotation]}
    if typing.get_origin(annotation) is typing.Literal:
        return {"enum": list(typing.get_args(annotation))}
    items, values = items_of(annotation), values_of(annotation)
    if items is not None:
        return {"type": "array", "items": _type(items)}
    if values is not None:
        return {"type": "object", "additionalProperties": _type(values)}
    if annotation not in (Any, object) and takes_callables(annotation):
        return {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in ("function", "initializer", "layer")]}
    return {}
