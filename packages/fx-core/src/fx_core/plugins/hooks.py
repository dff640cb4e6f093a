"""The hooks of fx, as pluggy specifications, and the marker that plugin authors use.

>>> from fx_core.plugins import CollectionEntry, hookimpl
>>> @hookimpl
... def fx_collections():
...     return [CollectionEntry(name="acme.moments", target="acme.nnx:Moments", summary="Running moments")]
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pluggy

from fx_core.plugins.entries import (
    CheckpointBackendEntry,
    CollectionEntry,
    CommandEntry,
    ExporterEntry,
    LayerEntry,
    LoggerEntry,
    ModelEntry,
    OnnxPrimitiveEntry,
)

PROJECT = "fx"
"""Name of the pluggy project and of the entry-point group."""

API_VERSION = (1, 1)
"""Version of this interface. A plugin declares the one it was written for as ``fx_api_version = "1.0"``.

The first number changes when old plugins would break, the second when hooks or fields are added.
"""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def fx_layers() -> Iterable[LayerEntry]:  # type: ignore[empty-body]
    """Returns layers that can be made by name."""


@hookspec
def fx_collections() -> Iterable[CollectionEntry]:  # type: ignore[empty-body]
    """Variable collections, with their NNX variable types and default places in transforms."""


@hookspec
def fx_checkpoint_backends() -> Iterable[CheckpointBackendEntry]:  # type: ignore[empty-body]
    """Ways to store trees."""


@hookspec
def fx_exporters() -> Iterable[ExporterEntry]:  # type: ignore[empty-body]
    """Ways to ship networks."""


@hookspec
def fx_loggers() -> Iterable[LoggerEntry]:  # type: ignore[empty-body]
    """Destinations for metrics."""


@hookspec
def fx_commands() -> Iterable[CommandEntry]:  # type: ignore[empty-body]
    """Sub-commands of ``fx``."""


@hookspec
def fx_models() -> Iterable[ModelEntry]:  # type: ignore[empty-body]
    """Kinds of models that can be exported, with how each becomes a function of its variables."""


@hookspec
def fx_onnx_primitives() -> Iterable[OnnxPrimitiveEntry]:  # type: ignore[empty-body]
    """Translations of JAX's primitives to ONNX."""


@hookspec
def fx_saving(path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
    """Called before a checkpoint is written to ``path``; raising stops the save."""


@hookspec
def fx_restored(path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
    """Called after a checkpoint was read from ``path`` and verified."""
