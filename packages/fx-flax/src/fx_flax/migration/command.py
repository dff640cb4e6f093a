"""``fx migrate``."""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from fx_core.terminal import plain

if TYPE_CHECKING:
    from fx_flax.migration.tree import MigratedFile

__all__ = ["migrate"]

_MANY = 50


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--write", "writing", is_flag=True, help="Change the files; otherwise only the differences are shown.")
@click.option("--json", "as_json", is_flag=True, help="Print a report for programs.")
@click.option("-q", "--quiet", is_flag=True, help="Leave the differences out.")
@click.pass_context
def migrate(ctx: click.Context, paths: Sequence[Path], writing: bool, as_json: bool, quiet: bool) -> None:
    """Rewrite programs that import Flax to import fx.

    Looks at Python files, notebooks, requirements*.txt, pyproject.toml and setup.cfg below the PATHS, shows what would
    change, and lists by file and line what has to be done by hand. The status is 0 when nothing has to, otherwise 1.
    """
    if importlib.util.find_spec("libcst") is None:
        needed = "fx migrate needs libcst, which the extra 'migrate' brings: pip install 'fx-flax[migrate]'"
        raise click.ClickException(needed)
    tree: Any = importlib.import_module("fx_flax.migration.tree")
    files = tree.migrate_tree(paths, _progress)
    failed = _write(tree.write, files) if writing else {}
    if as_json:
        click.echo(json.dumps(_report(files, failed, writing), indent=2))
    else:
        _show(files, failed, writing, quiet)
    ctx.exit(0 if not failed and all(file.done for file in files) else 1)


def _progress(done: int, of: int) -> None:
    """A line that counts, where there are many files and a terminal."""
    if of >= _MANY and sys.stderr.isatty():
        click.echo(f"\r{done} of {of} files", nl=done == of, err=True)


def _write(write: Callable[["MigratedFile"], None], files: Sequence["MigratedFile"]) -> dict[Path, str]:
    """Write what changes; give what could not be written, and why."""
    failed: dict[Path, str] = {}
    for file in files:
        if file.changed:
            try:
                write(file)
            except OSError as error:
                failed[file.path] = str(error)
    return failed


def _report(files: Sequence["MigratedFile"], failed: dict[Path, str], writing: bool) -> dict[str, object]:
    return {
        "written": writing,
        "changed": sum(file.changed for file in files),
        "left": sum(not file.done for file in files),
        "failed": {str(path): why for path, why in failed.items()},
        "files": [file.as_dict() for file in files],
    }


def _show(files: Sequence["MigratedFile"], failed: dict[Path, str], writing: bool, quiet: bool) -> None:
    if not writing and not quiet:
        for file in files:
            click.echo("\t".join(map(plain, file.diff().split("\t"))), nl=False)
    for file in files:
        if file.unreadable is not None:
            click.echo(plain(f"{file.path}: left alone: {file.unreadable}"))
        for finding in file.findings:
            click.echo(plain(f"{file.path}:{finding.line}: {finding.kind}: {finding.name}: {finding.why}"))
    for why in failed.values():
        click.echo(plain(f"failed: {why}"))
    changed = sum(file.changed for file in files) - len(failed)
    left = sum(not file.done for file in files)
    said = f"{changed} files {'changed' if writing else 'would change'}, {left} need a look by hand."
    click.echo(said if writing or not changed else f"{said} `--write` changes them.")
