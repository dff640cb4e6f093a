"""Test suites that ship with the interfaces of fx.

Whoever writes a backend, an exporter, a logger, a layer or a plugin subclasses the suite for it, says how to make the
thing, and runs pytest:

>>> class TestMyBackend(CheckpointBackendSuite):
...     def make(self):
...         return MyBackend()

They need the extra ``fx-core[testing]``.
"""

try:
    import hypothesis
    import pytest
except ImportError as error:
    raise ImportError("fx_core.testing needs pytest and hypothesis: pip install 'fx-core[testing]'") from error

_SUITES = (
    "array_nodes", "carriers", "checkpoint_backends", "collections", "exporters", "layers", "lazy_imports", "loggers",
    "plugins", "shared_layers", "states",
)  # fmt: skip
# Before they are imported, so that a failing assert shows its values.
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))

from fx_core.testing.array_nodes import ArrayNodeSuite  # noqa: E402
from fx_core.testing.carriers import CarrierSuite  # noqa: E402
from fx_core.testing.checkpoint_backends import CheckpointBackendSuite  # noqa: E402
from fx_core.testing.collections import CollectionSuite  # noqa: E402
from fx_core.testing.disks import RecordedDisk  # noqa: E402
from fx_core.testing.exporters import ExporterSuite  # noqa: E402
from fx_core.testing.faults import FaultyFileSystem  # noqa: E402
from fx_core.testing.layers import LinenLayerSuite, NnxLayerSuite  # noqa: E402
from fx_core.testing.lazy_imports import check_lazy_imports, modules_imported  # noqa: E402
from fx_core.testing.loggers import LoggerSuite  # noqa: E402
from fx_core.testing.plugins import PluginSuite  # noqa: E402
from fx_core.testing.shared_layers import SharedLayerSuite  # noqa: E402

__all__ = [
    "ArrayNodeSuite",
    "CarrierSuite",
    "CheckpointBackendSuite",
    "CollectionSuite",
    "ExporterSuite",
    "FaultyFileSystem",
    "LinenLayerSuite",
    "LoggerSuite",
    "NnxLayerSuite",
    "PluginSuite",
    "RecordedDisk",
    "SharedLayerSuite",
    "check_lazy_imports",
    "modules_imported",
]

del hypothesis, pytest
