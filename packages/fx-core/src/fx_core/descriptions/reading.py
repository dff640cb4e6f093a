"""From a description to the layers that it names."""

import dataclasses
import json
import os
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from fx_core.descriptions.arguments import call_layer, name_faults
from fx_core.descriptions.functions import FUNCTIONS, INITIALIZERS, initializer_fault, make_initializer
from fx_core.descriptions.parameters import (
    Signature,
    alternatives,
    items_of,
    says,
    signature_of,
    takes_callables,
    values_of,
)
from fx_core.errors import EntryLoadError, EntryNameClashError, UnknownEntryError
from fx_core.errors.descriptions import DescriptionError
from fx_core.plugins import registry
from fx_core.plugins.registry import Face

KINDS = ("layer", "function", "initializer", "dtype")
"""Keys that say what a dict of a description stands for; a dict with none of them is a dict."""

MAX_DEPTH = 64
MAX_BYTES = 10_000_000

Make = Callable[[], Any]


def read(source: Mapping[str, Any] | str | os.PathLike[str]) -> dict[str, Any]:
    """Returns a description from a dict, or from a ``.json`` or ``.toml`` file.

    Raises:
      DescriptionError: it is neither; the file is of another kind, too large, or not what its name says.
      FileNotFoundError: there is no such file.
    """
    if isinstance(source, Mapping):
        return dict(source)
    if not isinstance(source, (str, os.PathLike)):
        fix = "Pass a dict, or the path of a .json or .toml file."
        raise DescriptionError([("", f"expected a dict or a path, got {_short(source)}")], fix)
    path = Path(source)
    if path.suffix not in (".json", ".toml"):
        raise DescriptionError([(str(path), "is no .json or .toml file")], "Pass a dict, or the path of such a file.")
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        raise DescriptionError([(str(path), f"has {len(content)} bytes; at most {MAX_BYTES} are read")])
    try:
        text = content.decode()
        found = json.loads(text, object_pairs_hook=_once) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DescriptionError([(str(path), f"cannot be read: {error}")], "Correct the file.") from error
    if not isinstance(found, dict):
        raise DescriptionError([(str(path), f"holds a {type(found).__name__}, not a description")])
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = sorted({name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1})
        raise ValueError(f"the key {twice[0]!r} is given twice in one object")
    return found


def build(
    description: Mapping[str, Any] | str | os.PathLike[str], face: Face, implied: Mapping[str, Any] | None = None
) -> Any:
    """Returns the model that a description names; nothing is made before all of it is found right.

    Layers are made in the order in which the description names them, the inner ones first.

    Args:
      description: a dict, or the path of a ``.json`` or ``.toml`` file.
      face: ``"linen"`` or ``"nnx"``.
      implied: what each layer that has such a parameter gets: ``rngs`` for NNX.

    Raises:
      DescriptionError: with all mistakes and their places.
    """
    reader = _Reader(face, implied or {})
    make = reader.layer(read(description), "", 0)
    if reader.mistakes:
        raise DescriptionError(reader.mistakes)
    return make()


@dataclasses.dataclass
class _Reader:
    """Checks a description, and gives for each value in it the function that makes it."""

    face: Face
    implied: Mapping[str, Any]
    mistakes: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def wrong(self, place: str, text: str) -> Make:
        self.mistakes.append((place, text))
        return lambda: None

    def layer(self, found: Mapping[str, Any], place: str, depth: int) -> Make:
        name = found.get("layer")
        if not isinstance(name, str):
            return self.wrong(place, 'has no "layer" with the name of one' if name is None else f"{name!r} is no name")
        if depth > MAX_DEPTH:
            return self.wrong(place, f"is nested more than {MAX_DEPTH} layers deep")
        try:
            layer = registry().layers(self.face)[name].load()
        except (UnknownEntryError, EntryNameClashError, EntryLoadError) as error:
            return self.wrong(place, f"{str(error).splitlines()[0]} {error.fix or ''}".strip())
        signature = signature_of(layer, self.face)
        given = {key: value for key, value in found.items() if key != "layer"}
        if any(not isinstance(key, str) for key in given):
            return self.wrong(place, f"names of arguments are text; {name} has {', '.join(map(_short, given))}")
        for fault in name_faults(name, signature, given, self.implied):
            self.wrong(place, fault)
        makes = {key: self.argument(key, value, signature, place, depth) for key, value in given.items()}
        return lambda: call_layer(layer, signature, {key: make() for key, make in makes.items()}, self.implied)

    def argument(self, key: str, value: Any, signature: Signature, place: str, depth: int) -> Make:
        parameter = signature.parameters.get(key)
        at = f"{place}.{key}" if place else key
        if parameter is None:
            return self.value(value, Any, at, depth)
        if not parameter.repeated:
            return self.value(value, parameter.annotation, at, depth)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return self.wrong(at, f"expected a list, got {_short(value)}")
        return self.items(value, parameter.annotation, at, depth)

    def items(self, value: Sequence[Any], annotation: Any, place: str, depth: int) -> Make:
        makes = [self.value(one, annotation, f"{place}[{i}]", depth) for i, one in enumerate(value)]
        return lambda: tuple(make() for make in makes)

    def value(self, value: Any, annotation: Any, place: str, depth: int) -> Make:
        if depth > MAX_DEPTH:
            return self.wrong(place, f"is nested more than {MAX_DEPTH} deep")
        kinds = alternatives(annotation)
        kind = next((key for key in KINDS if isinstance(value, Mapping) and key in value), None)
        if kind is not None:
            return self.named(kind, value, kinds, place, depth)
        if isinstance(value, Mapping):
            of = next((one for one in (values_of(k) for k in kinds) if one is not None), None)
            integers = any((typing.get_args(k) or (Any,))[0] is int for k in kinds if values_of(k) is not None)
            if of is None and not _open(kinds):
                return self.wrong(place, _expected(annotation, value))
            makes = {
                # JSON has no other keys than text.
                int(key) if integers and _is_integer(key) else key: self.value(
                    one, Any if of is None else of, f"{place}.{key}", depth + 1
                )
                for key, one in value.items()
            }
            return lambda: {key: make() for key, make in makes.items()}
        if isinstance(value, (list, tuple)):
            of = next((one for one in (items_of(k) for k in kinds) if one is not None), None)
            if of is None and not _open(kinds):
                return self.wrong(place, _expected(annotation, value))
            return self.items(value, Any if of is None else of, place, depth + 1)
        if value is not None and not isinstance(value, (bool, int, float, str)):
            return self.wrong(place, f"{_short(value)} is nothing that a description can hold")
        if not _open(kinds) and not any(_is_scalar(value, one) for one in kinds):
            return self.wrong(place, _expected(annotation, value))
        return lambda: value

    def named(self, kind: str, value: Mapping[str, Any], kinds: Sequence[Any], place: str, depth: int) -> Make:
        if kind == "layer":
            return self.layer(value, place, depth + 1)
        name, rest = value[kind], {key: one for key, one in value.items() if key != kind}
        if kind == "dtype":
            return self.dtype(name, rest, place)
        known = FUNCTIONS if kind == "function" else INITIALIZERS
        if not isinstance(name, str) or name not in known:
            return self.wrong(place, f"there is no {kind} {_short(name)}; there are {', '.join(known)}")
        if not _open(kinds) and not any(takes_callables(one) for one in kinds):
            return self.wrong(place, f"expected {' or '.join(map(says, kinds))}, got the {kind} {name}")
        if kind == "function":
            return self.wrong(place, "a function is named alone") if rest else lambda: FUNCTIONS[name]
        for key in [key for key, one in rest.items() if isinstance(one, Mapping)]:
            return self.wrong(f"{place}.{key}", "an initializer takes numbers, text and lists")
        fault = initializer_fault(name, rest)
        if fault:
            return self.wrong(place, f"{name}: {fault}")
        hints = typing.get_type_hints(INITIALIZERS[name])
        for key, one in rest.items():
            if hints.get(key) is Any and isinstance(one, str):
                self.wrong(f"{place}.{key}", f"expected numbers, got {_short(one)}")
            else:
                self.value(one, hints.get(key, Any), f"{place}.{key}", depth + 1)
        return lambda: make_initializer(name, rest)

    def dtype(self, name: Any, rest: Mapping[str, Any], place: str) -> Make:
        if rest or not isinstance(name, str):
            return self.wrong(place, 'a dtype is written {"dtype": "float32"}')
        try:
            # As programs write it: `jnp.float32`, which as a static attribute is another thing than its `np.dtype`.
            dtype = getattr(jnp, jnp.dtype(name).name)
        except (TypeError, AttributeError):
            return self.wrong(place, f"there is no dtype {name!r}")
        return lambda: dtype


def _is_integer(key: Any) -> bool:
    return isinstance(key, str) and key.removeprefix("-").isdecimal()


def _open(kinds: Sequence[Any]) -> bool:
    """Whether the annotation says nothing that can be checked: Any, or a class that only its author knows."""
    plain = (bool, int, float, str, type(None))
    return any(
        one in (Any, object)
        or not (one in plain or _choices(one) or items_of(one) or values_of(one) or takes_callables(one))
        for one in kinds
    )


def _choices(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()


def _is_scalar(value: Any, annotation: Any) -> bool:
    choices = _choices(annotation)
    if choices:
        return any(value == one and type(value) is type(one) for one in choices)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return annotation in (bool, str, type(None)) and isinstance(value, annotation)


def _expected(annotation: Any, value: Any) -> str:
    return f"expected {says(annotation)}, got {_short(value)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
