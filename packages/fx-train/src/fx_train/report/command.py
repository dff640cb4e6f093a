"""``fx report``."""

import webbrowser
from pathlib import Path

import click
from fx_core.errors import FxError
from fx_core.terminal import plain

from fx_train.report.page import write_report


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file to write; by default RUN/report.html.")
@click.option("--open", "show", is_flag=True, help="Show it in the browser.")
def report(run: Path, output: Path | None, show: bool) -> None:
    """Write a self-contained HTML page about the training run in the directory RUN."""
    try:
        written = write_report(run, output)
    except FxError as error:
        raise click.ClickException(plain(str(error))) from error
    click.echo(f"Wrote {plain(str(written))}")
    if show:
        webbrowser.open(written.resolve().as_uri())
