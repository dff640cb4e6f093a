"""What fx-export brings through the plugin door."""

from collections.abc import Iterable

from fx_core.plugins import CommandEntry, ExporterEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_exporters() -> Iterable[ExporterEntry]:
    """Returns the exporters of this package."""
    return [
        ExporterEntry(
            name="stablehlo",
            target="fx_export.stablehlo:StableHLOExporter",
            summary="A jax.export program with its weights",
        ),
        ExporterEntry(
            name="onnx",
            target="fx_export.onnx.exporter:OnnxExporter",
            summary="An ONNX model, checked by ONNX Runtime",
            extra="onnx",
        ),
        ExporterEntry(
            name="savedmodel",
            target="fx_export.savedmodel.exporter:SavedModelExporter",
            summary="A SavedModel, checked by TensorFlow",
            extra="tf",
        ),
        ExporterEntry(
            name="litert",
            target="fx_export.litert.exporter:LiteRTExporter",
            summary="A .tflite file in floats or 8 bits, checked by LiteRT",
            extra="litert",
        ),
    ]


@hookimpl
def fx_commands() -> Iterable[CommandEntry]:
    """Returns the commands about exported networks."""
    return [
        CommandEntry(
            name="export",
            target="fx_export.commands:export",
            summary="Export trained runs, look at bundles, check them",
        )
    ]
