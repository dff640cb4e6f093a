"""The exporter of this package keeps the contract that every exporter author's does."""

from fx_core.testing.exporters import ExporterSuite
from fx_export.stablehlo import StableHLOExporter


class TestStableHLOExporter(ExporterSuite):
    def make(self):
        return StableHLOExporter()
