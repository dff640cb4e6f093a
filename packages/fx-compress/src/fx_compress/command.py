"""``fx compress``."""

import json
import webbrowser
from pathlib import Path

import click
from fx_core.cli.guarded import GuardedGroup
from fx_core.terminal import plain, table_text

from fx_compress.errors import CompressError
from fx_compress.page import write_page
from fx_compress.report import Report


@click.group(cls=GuardedGroup)
def compress() -> None:
    """Look at what compression did to models."""


@compress.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write an HTML page, too.")
@click.option("--open", "show", is_flag=True, help="Show the page in the browser.")
def report(reports: tuple[Path, ...], as_json: bool, page: Path | None, show: bool) -> None:
    """Show bytes, errors and accuracies before and after.

    Bytes and errors are those of each layer.

    REPORTS are files that `fx_compress.compare(...).write("int8.json")` wrote, or directories of them.
    """
    if show and page is None:
        raise click.UsageError("--open shows the page that --html names.")
    found = _read(reports)
    written = None if page is None else write_page(found, page, plain(reports[0].resolve().stem))
    if as_json:
        click.echo(json.dumps({name: each.as_json() for name, each in found.items()}, indent=2))
    else:
        _show(found)
    if written is not None:
        click.echo(f"Wrote {plain(str(written))}", err=as_json)
        if show:
            webbrowser.open(written.resolve().as_uri())


def _read(paths: tuple[Path, ...]) -> dict[str, Report]:
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise CompressError(
            "There are no reports.", path=str(paths[0]), expected="files that end in .json", got="an empty directory"
        )
    names = [file.stem for file in files]
    unique = len(set(names)) == len(names)
    return {name if unique else str(file): Report.read(file) for name, file in zip(names, files)}


def _show(found: dict[str, Report]) -> None:
    for name, each in found.items():
        click.echo(f"{plain(name)}\n\n{plain(str(each))}\n")
    if len(found) > 1:
        figures = list(dict.fromkeys(name for each in found.values() for name in each.figures))
        rows = [
            (name, f"{each.bytes_after:,}", f"{each.ratio:.3f}", *(_figure(each, figure) for figure in figures))
            for name, each in found.items()
        ]
        click.echo(table_text(("model", "bytes", "ratio", *figures), rows, right=("bytes", "ratio", *figures)))


def _figure(report: Report, name: str) -> str:
    return "{:.6g} → {:.6g}".format(*report.figures[name]) if name in report.figures else ""
