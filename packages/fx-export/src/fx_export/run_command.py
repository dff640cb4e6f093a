"""The command that exports a trained run: ``fx export RUN --model package.module:build --input …``."""

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from fx_core.errors import ArgumentTypeError
from fx_core.terminal import plain

from fx_export.bundle import exporter_named
from fx_export.errors import exporter_option
from fx_export.exporting import check_options, export
from fx_export.inputs import input_specs

_SHOWN = 200


def built(text: str, run: Path) -> tuple[Any, Any]:
    """Calls the function that makes a model out of a run.

    Args:
      text: where it is: ``"package.module:function"``; modules of the current directory are found, too.
      run: what it is called with.

    Returns:
      The model, and its variables where the function gives both.

    Raises:
      ArgumentTypeError: there is no such function.
    """
    return _parts(_function(text)(run))


def _function(text: str) -> Callable[[Path], Any]:
    module, _, name = text.partition(":")
    where = str(Path.cwd())
    if where not in sys.path:
        sys.path.insert(0, where)
    if not module or not name:
        raise _no_function(text, "no module and name with a colon between them")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise _no_function(text, f"{type(error).__name__}: {error}") from error
    if not callable(found):
        raise _no_function(text, f"an object of type {type(found).__name__}")
    return found


def _no_function(text: str, got: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"{text!r} names no function that makes a model.",
        expected="package.module:function",
        got=got,
        fix="Write a function that takes the path of the run and gives the model, or the model and its variables.",
    )


def _parts(result: Any) -> tuple[Any, Any]:
    # A training state of a library may be a named tuple.
    return result if type(result) is tuple and len(result) == 2 else (result, None)


def settings_of(texts: Iterable[str]) -> dict[str, Any]:
    """Returns options in texts by name: a value is JSON where it can be, and a text otherwise."""
    found: dict[str, Any] = {}
    for text in texts:
        name, given, value = text.partition("=")
        if not given or not name.isidentifier():
            raise click.BadParameter(f"{plain(text[:_SHOWN])!r} is no name=value")
        if name in found:
            raise click.BadParameter(f"{name!r} is there twice")
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _own_options(format: str, texts: Iterable[str]) -> dict[str, Any]:
    """Options of a format; a name that `export` has itself would mean something else there."""
    options = settings_of(texts)
    reserved = sorted(options.keys() & inspect.signature(export).parameters.keys())
    if reserved:
        raise exporter_option(format, "options of the format; the command has its own, such as --tolerance", reserved)
    check_options(format, exporter_named(format).export, (None, None, ()), options)
    return options


@click.command("from-run")
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--model", required=True, metavar="MODULE:FUNCTION", help="Gives the model, or (model, variables), of RUN."
)
@click.option("--format", default="stablehlo", show_default=True, help="See: fx export formats")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="TEXT",
    help='Such as "image:float32[batch,28,28,1]"; in order.',
)
@click.option("--output", type=click.Path(path_type=Path), help="What to make; by default RUN/exports/FORMAT.")
@click.option(
    "--call", multiple=True, metavar="NAME=VALUE", help="A keyword argument of the call, such as train=false."
)
@click.option(
    "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the format, such as opset=21."
)
@click.option("--constraint", "constraints", multiple=True, metavar="TEXT", help='Such as "length <= 128".')
@click.option(
    "--verify-sizes", multiple=True, metavar="NAME=SIZES", help="Sizes to compare at, such as length=[1,128]."
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compare with the model.")
@click.option("--tolerance", type=float, help="Largest relative difference.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def export_run(
    run: Path,
    model: str,
    format: str,
    inputs: tuple[str, ...],
    output: Path | None,
    call: tuple[str, ...],
    options: tuple[str, ...],
    verify_sizes: tuple[str, ...],
    as_json: bool,
    **settings: Any,
) -> None:
    """Export what was trained in RUN, and compare it with the model.

    RUN is a directory or file that the function of --model knows: it restores the weights from there and gives the
    model. Name it ./inspect or the like where RUN has the name of a command.
    """
    output = output or (run if run.is_dir() else run.parent) / "exports" / format
    own = _own_options(format, options)
    settings |= {"call": settings_of(call), "verify_sizes": settings_of(verify_sizes)}
    # Before the model is built: it may take long.
    input_specs(format, list(inputs), settings["constraints"])
    found, variables = built(model, run)
    path = str(export(output, found, variables, list(inputs), format=format, **settings, **own))
    click.echo(json.dumps({"path": path, "exporter": format}) if as_json else f"{plain(path)}: {format} bundle")
