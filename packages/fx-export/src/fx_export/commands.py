"""The commands below ``fx export``."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jax
from fx_core.cli.guarded import GuardedGroup
from fx_core.files import read_manifest, settled
from fx_core.plugins import registry
from fx_core.terminal import plain, table_text

from fx_export.bundle import FORMAT, VERSION, load
from fx_export.renewing import renew as _renew
from fx_export.run_command import export_run, settings_of

_PATH = click.argument("path", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


class ExportGroup(GuardedGroup):
    """A group of commands; what is no command is a run to export."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Finds the command; paths of runs come first in the line of `export_run`."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            return export_run.name, export_run, args
        return super().resolve_command(ctx, args)


@click.group(cls=ExportGroup)
def export() -> None:
    """Export networks, look at them and check them.

    fx export RUN --model package.module:function --input "image:float32[batch,28,28,1]" exports what was trained in
    RUN; see fx export from-run --help.
    """


@export.command()
@_JSON
def formats(as_json: bool) -> None:
    """List the formats, with what installs their dependencies."""
    rows = [
        {"name": name, "summary": entry.summary, "extra": entry.extra}
        for name, entry in sorted(registry().exporters.items())
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    columns = ("format", "what it makes", "extra")
    click.echo(table_text(columns, [(row["name"], row["summary"], row["extra"] or "") for row in rows]))
    click.echo("pip install 'fx-export[EXTRA]' installs what a format needs.")


@export.command()
@_PATH
@_JSON
def inspect(path: Path, as_json: bool) -> None:
    """Show format, versions, inputs and errors of a bundle.

    The errors are the differences from the model when it was exported. "verify" checks the files.
    """
    source = settled(path)
    manifest = read_manifest(source, format=FORMAT, version=VERSION)
    fields = ("exporter", "created", "written_by", "inputs", "metadata", "verification")
    # Older bundles do not list their inputs.
    shown = {key: manifest.get(key) for key in fields if key in manifest or key != "inputs"}
    shown["bytes"] = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(table_text(("field", "value"), list(_rows(shown))))


def _rows(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields each field of nested dictionaries with the names of those around it, and each item of a list."""
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{key} ")
        else:
            yield from ((f"{prefix}{key}", str(item)) for item in (value if isinstance(value, list) else [value]))


@export.command()
@_PATH
@_JSON
def verify(path: Path, as_json: bool) -> None:
    """Check every byte of a bundle, and that its runtime loads it.

    The exit code is 1 if a file is not as its manifest says, or the bundle does not load.
    """
    bundle = load(path)
    found = bundle.verification
    if as_json:
        click.echo(json.dumps({"path": str(path), "exporter": bundle.exporter, "verification": found}, indent=2))
        return
    compared = "was not compared with its model" if found is None else f"{len(found['trials'])} trials at export"
    click.echo(f"{plain(str(path))}: {bundle.exporter} bundle, all bytes as written, loads; {compared}")


@export.command()
@_PATH
@click.option(
    "--verify-sizes", multiple=True, metavar="NAME=SIZES", help="Sizes to compare at; by default those of the export."
)
@_JSON
def renew(path: Path, verify_sizes: tuple[str, ...], as_json: bool) -> None:
    """Write a StableHLO bundle anew by the installed JAX.

    JAX promises to read what it wrote for half a year.
    """
    written = str(_renew(path, verify_sizes=settings_of(verify_sizes) or None))
    if as_json:
        click.echo(json.dumps({"path": written, "jax": jax.__version__}, indent=2))
    else:
        click.echo(f"{plain(written)}: written by jax {jax.__version__}")


export.add_command(export_run)
