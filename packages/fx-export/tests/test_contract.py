"""The exporters of this package keep the contract that every exporter author's does."""

from fx_core.testing.exporters import ExporterSuite
from fx_export.onnx.exporter import OnnxExporter
from fx_export.stablehlo import StableHLOExporter


class TestStableHLOExporter(ExporterSuite):
    def make(self):
        return StableHLOExporter()


class TestOnnxExporter(ExporterSuite):
    def make(self):
        return OnnxExporter()
