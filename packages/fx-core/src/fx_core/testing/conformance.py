"""The suites for everything that a distribution registers, as the pytest plugin of fx-core collects them.

A test file of an author says which distribution it tests, and is complete::

    fx_distribution = "acme-layers"

Three more names say what the suites cannot guess, all of them by the name of an entry: ``fx_arguments``, keyword
arguments of a layer; ``fx_inputs``, positional arguments of its call; ``fx_kwargs``, keyword arguments of it. A
required number that is not given is 3 for what `fx_core.layers.input_size` declares, and 4 otherwise.
"""

import importlib
import re
from collections.abc import Mapping
from typing import Any

from fx_core import layers
from fx_core.descriptions.parameters import signature_of
from fx_core.plugins.entries import CollectionEntry, Entry, LayerEntry
from fx_core.plugins.registry import Face, Registry
from fx_core.plugins.sources import installed_sources
from fx_core.plugins.switches import Switches, normalize
from fx_core.testing.checkpoint_backends import CheckpointBackendSuite
from fx_core.testing.collections import CollectionSuite
from fx_core.testing.exporters import ExporterSuite
from fx_core.testing.layers import LinenLayerSuite, NnxLayerSuite
from fx_core.testing.loggers import LoggerSuite
from fx_core.testing.plugins import PluginSuite
from fx_core.testing.shared_layers import SharedLayerSuite

__all__ = ["entries_of_distribution", "suites"]


def entries_of_distribution(distribution: str) -> list[Entry]:
    """Returns everything that an installed distribution registers.

    >>> sorted({entry.kind for entry in entries_of_distribution("fx-core")})
    ['collection', 'command']
    """
    sources = [one for one in installed_sources() if normalize(one.origin.owner) == normalize(distribution)]
    return [entry for status in Registry(sources, Switches()).plugins for entry in status.entries]


def suites(
    distribution: str,
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    inputs: Mapping[str, tuple[Any, ...]] | None = None,
    kwargs: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, type]:
    """Returns a test class for the plugin and one for each of its entries and faces, by the name of the class.

    >>> sorted(suites("fx-core"))[0]
    'TestCollection_batch_stats'

    Args:
      distribution: name of an installed distribution.
      arguments: keyword arguments of layers, by name of the entry.
      inputs: positional arguments of their calls.
      kwargs: keyword arguments of their calls.
    """
    found: dict[str, type] = {"TestPlugin": type("TestPlugin", (PluginSuite,), {"distribution": distribution})}
    for entry in entries_of_distribution(distribution):
        if isinstance(entry, LayerEntry):
            given = {key: table[entry.name] for key, table in
                     (("inputs", inputs or {}), ("kwargs", kwargs or {})) if entry.name in table}  # fmt: skip
            found |= _of_layer(entry, dict((arguments or {}).get(entry.name, {})), given)
        elif isinstance(entry, CollectionEntry):
            found[_name("Collection", entry)] = type("", (CollectionSuite,), {"entry": entry})
        elif entry.kind in _MADE:
            base, make = _MADE[entry.kind]
            found[_name(base.__name__.removesuffix("Suite"), entry)] = type("", (base,), {"make": make(entry)})
    for name, cls in found.items():
        cls.__name__ = cls.__qualname__ = name
    return found


_MADE: dict[str, tuple[type, Any]] = {
    "checkpoint_backend": (CheckpointBackendSuite, lambda entry: lambda self: entry.load()()),
    "exporter": (ExporterSuite, lambda entry: lambda self: entry.load()()),
    "logger": (LoggerSuite, lambda entry: lambda self, directory: entry.load()(directory)),
}


def _of_layer(entry: LayerEntry, arguments: dict[str, Any], given: Mapping[str, Any]) -> dict[str, type]:
    calls = {key: (lambda self, value=value: value) for key, value in given.items()}
    found: dict[str, type] = {}
    for face, base in (("linen", LinenLayerSuite), ("nnx", NnxLayerSuite)):
        one = entry.of_face(face)  # type: ignore[arg-type]
        if one is not None:
            make = _linen(one, arguments) if face == "linen" else _nnx(one, arguments)
            found[_name(f"{face.capitalize()}Layer", entry)] = type("", (base,), {"make": make, **calls})
    if entry.face == "both":
        find = {
            "layer": lambda self: entry.load(),
            "arguments": lambda self: _completed(entry.load(), "linen", arguments),
        }
        found[_name("SharedLayer", entry)] = type("", (SharedLayerSuite,), {**find, **calls})
    return found


def _linen(entry: LayerEntry, arguments: dict[str, Any]) -> Any:
    return lambda self: entry.load()(**_completed(entry.load(), "linen", arguments))


def _nnx(entry: LayerEntry, arguments: dict[str, Any]) -> Any:
    def make(self: Any, seed: int) -> Any:
        layer, implied = entry.load(), {}
        if "rngs" in signature_of(layer, "nnx").implied:
            # Who loads an NNX layer has fx-nnx, which this package must not need.
            implied["rngs"] = importlib.import_module("fx_nnx").Rngs(seed)
        return layer(**_completed(layer, "nnx", arguments), **implied)

    return make


def _completed(layer: Any, face: Face, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a layer, with numbers for those that it needs and that were not given."""
    shared = getattr(layer, "_fx_layer", layer)
    sizes = layers.input_axes(shared) if isinstance(shared, type) and issubclass(shared, layers.Layer) else {}
    required = [one for one in signature_of(layer, face).parameters.values() if one.required and one.annotation is int]
    return {**{one.name: 3 if one.name in sizes else 4 for one in required}, **arguments}


def _name(kind: str, entry: Entry) -> str:
    return f"Test{kind}_{re.sub(r'[^0-9A-Za-z]', '_', entry.name)}"
