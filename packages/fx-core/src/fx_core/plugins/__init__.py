"""The plugin system of fx: hooks, entries and the registry."""

from fx_core.plugins.entries import (
    CheckpointBackendEntry,
    CollectionEntry,
    CommandEntry,
    Entry,
    ExporterEntry,
    LayerEntry,
    LoggerEntry,
)
from fx_core.plugins.hooks import API_VERSION, hookimpl
from fx_core.plugins.interfaces import CheckpointBackend, Exporter, MetricLogger

__all__ = [
    "API_VERSION",
    "CheckpointBackend",
    "CheckpointBackendEntry",
    "CollectionEntry",
    "CommandEntry",
    "Entry",
    "Exporter",
    "ExporterEntry",
    "LayerEntry",
    "LoggerEntry",
    "MetricLogger",
    "hookimpl",
]
