"""``fx report``."""

import json
import webbrowser
from pathlib import Path

import click
from fx_core.cli.guarded import GuardedCommand
from fx_core.terminal import plain

from fx_train.report.page import write_report


@click.command(cls=GuardedCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file to write; by default RUN/report.html.")
@click.option("--open", "show", is_flag=True, help="Show it in the browser.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def report(run: Path, output: Path | None, show: bool, as_json: bool) -> None:
    """Write a self-contained HTML page about the training run in the directory RUN."""
    written = write_report(run, output)
    if as_json:
        click.echo(json.dumps({"run": str(run), "page": str(written)}, indent=2))
    else:
        click.echo(f"Wrote {plain(str(written))}")
    if show:
        webbrowser.open(written.resolve().as_uri())
