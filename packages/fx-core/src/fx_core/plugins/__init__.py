"""The plugin system of fx: hooks, entries and the registry."""

from fx_core.plugins.entries import (
    CheckpointBackendEntry,
    CollectionEntry,
    CommandEntry,
    Entry,
    ExporterEntry,
    LayerEntry,
    LoggerEntry,
    ModelEntry,
    OnnxPrimitiveEntry,
    Origin,
)
from fx_core.plugins.hooks import API_VERSION, hookimpl
from fx_core.plugins.interfaces import CheckpointBackend, Exporter, MetricLogger
from fx_core.plugins.registry import Registry, registry, reset
from fx_core.plugins.sources import PluginSource
from fx_core.plugins.status import PluginStatus
from fx_core.plugins.switches import Switches
from fx_core.plugins.table import EntryTable

__all__ = [
    "API_VERSION",
    "CheckpointBackend",
    "CheckpointBackendEntry",
    "CollectionEntry",
    "CommandEntry",
    "Entry",
    "EntryTable",
    "Exporter",
    "ExporterEntry",
    "LayerEntry",
    "LoggerEntry",
    "MetricLogger",
    "ModelEntry",
    "OnnxPrimitiveEntry",
    "Origin",
    "PluginSource",
    "PluginStatus",
    "Registry",
    "Switches",
    "hookimpl",
    "registry",
    "reset",
]
