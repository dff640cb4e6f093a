"""The hooks: what there is, by name."""

from collections.abc import Iterable

from fx_core.plugins import CheckpointBackendEntry, CollectionEntry, ExporterEntry, LayerEntry, LoggerEntry, hookimpl

fx_api_version = "1.0"


@hookimpl
def fx_layers() -> Iterable[LayerEntry]:
    """Maxout, for both faces."""
    summary = "Maximum of several affine maps"
    return [
        LayerEntry(name="demo.Maxout", target="fx_demo_plugin.linen_layers:Maxout", face="linen", summary=summary),
        LayerEntry(name="demo.Maxout", target="fx_demo_plugin.nnx_layers:Maxout", face="nnx", summary=summary),
    ]


@hookimpl
def fx_collections() -> Iterable[CollectionEntry]:
    """How often each piece of a maxout layer won."""
    return [
        CollectionEntry(
            name="demo.usage",
            target="fx_demo_plugin.variables:Usage",
            summary="How often each piece of a maxout layer was the maximum",
            scan_slot="carry",
            saved=False,
        )
    ]


@hookimpl
def fx_checkpoint_backends() -> Iterable[CheckpointBackendEntry]:
    """A zip of .npy files."""
    return [
        CheckpointBackendEntry(
            name="demo.zip", target="fx_demo_plugin.backend:ZipBackend", summary="One zip of .npy files"
        )
    ]


@hookimpl
def fx_exporters() -> Iterable[ExporterEntry]:
    """One StableHLO file."""
    return [
        ExporterEntry(
            name="demo.stablehlo",
            target="fx_demo_plugin.exporter:StableHloExporter",
            summary="One StableHLO file with the weights inside",
        )
    ]


@hookimpl
def fx_loggers() -> Iterable[LoggerEntry]:
    """A table with tabs."""
    summary = "One line per number, with tabs between step, name and value"
    return [LoggerEntry(name="demo.tsv", target="fx_demo_plugin.logger:TsvLogger", summary=summary)]
