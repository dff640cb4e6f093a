"""The commands below ``fx ckpt``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from fx_core.errors import FxError
from fx_core.files import MANIFEST, remove_directory, settled
from fx_core.manifests import foreign
from fx_core.terminal import plain

from fx_ckpt import checkpoint, converting
from fx_ckpt.cli import tables
from fx_ckpt.cli.differences import differences
from fx_ckpt.draft import FORMAT, OWN
from fx_ckpt.errors import NoCheckpointError
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.manager import CheckpointManager

_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
_STEP = click.option("--step", type=int, help="Which step, in the directory of a manager; the newest by default.")
_PATH = click.argument("path", type=click.Path(path_type=Path))


class Guarded(click.Group):
    """A group whose commands turn errors of fx into messages, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (FxError, OSError) as error:
            raise click.ClickException(plain(str(error))) from error


@click.group(cls=Guarded)
def ckpt() -> None:
    """Look at checkpoints, check, compare, convert and remove them."""


@ckpt.command()
@_PATH
@_JSON
def ls(path: Path, as_json: bool) -> None:
    """List the steps in the directory of a manager, with sizes and metrics; exit code 1 if one cannot be read."""
    manager = CheckpointManager(path)
    infos, damaged = _infos(manager, manager.all_steps())
    if as_json:
        unread = [{"step": step, "problem": problem} for step, problem in damaged.items()]
        click.echo(json.dumps([*map(tables.summary, infos.values()), *unread], indent=2))
    else:
        tables.show_steps(path, list(infos.values()), damaged)
    if damaged:
        raise SystemExit(1)


@ckpt.command()
@_PATH
@_STEP
@_JSON
def inspect(path: Path, step: int | None, as_json: bool) -> None:
    """Show what a checkpoint holds: each array with dtype, shape and sharding, metrics and metadata."""
    info = checkpoint.inspect(_one(path, step))
    if as_json:
        click.echo(json.dumps({**tables.summary(info), "leaves": tables.leaves(info)}, indent=2))
    else:
        tables.show_checkpoint(info)


@ckpt.command()
@_PATH
@_STEP
def verify(path: Path, step: int | None) -> None:
    """Check every byte of a checkpoint, or of every step; exit code 1 if anything is damaged."""
    paths = [_one(path, step)] if step is not None or _is_checkpoint(path) else _steps(path)
    if not paths:
        raise click.ClickException(f"There is no checkpoint in {path}.")
    damaged = 0
    for one in paths:
        try:
            info = checkpoint.verify(one)
            tables.say(("whole", "green"), f"    {one}  {tables.bytes_text(info.size)}")
        except (FxError, OSError) as error:
            damaged += 1
            tables.say(("damaged", "bold red"), f"  {one}\n{error}")
    if damaged:
        raise SystemExit(1)


@ckpt.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--structure", is_flag=True, help="Compare kinds, dtypes and shapes only, and read no arrays.")
@_JSON
def diff(first: Path, second: Path, structure: bool, as_json: bool) -> None:
    """Compare two checkpoints leaf by leaf; exit code 1 if they differ.

    A path may be followed by @STEP: fx ckpt diff run@100 run@200.
    """
    found = differences(_at(first), _at(second), values=not structure)
    if as_json:
        click.echo(json.dumps([line._asdict() for line in found], indent=2))
    else:
        tables.show_differences(found)
    if found:
        raise SystemExit(1)


@ckpt.command()
@_PATH
@click.option("--to", required=True, help="Name of the backend.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; in place by default.")
@_STEP
def convert(path: Path, to: str, out: Path | None, step: int | None) -> None:
    """Write a checkpoint in the format of another backend."""
    new = checkpoint.inspect(converting.convert(_one(path, step), to, out))
    tables.say(f"{new.path}: {new.backend}, {tables.bytes_text(new.size)}")


@ckpt.command()
@_PATH
@click.argument("steps", nargs=-1, type=int, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(path: Path, steps: tuple[int, ...], yes: bool) -> None:
    """Remove steps from the directory of a manager, whole or damaged; of a step that is a link, the link."""
    manager = CheckpointManager(path)
    there = manager.all_steps()
    for step in steps:
        if step not in there:
            raise NoCheckpointError(str(manager.directory), step, there)
    infos, damaged = _infos(manager, dict.fromkeys(steps))
    size = sum(info.size for info in infos.values())
    if not yes:
        named = ", ".join(map(str, dict.fromkeys(steps)))
        more = f", and {len(damaged)} that cannot be read" if damaged else ""
        click.confirm(plain(f"Remove step {named} of {path} ({tables.bytes_text(size)}{more})?"), abort=True)
    for step in dict.fromkeys(steps):
        place = settled(manager.path(step))
        found = None if place.is_symlink() else foreign(place, FORMAT, OWN)
        if found is not None:
            raise click.ClickException(plain(f"{place} is kept: it is {found}. Move away what is not fx's."))
        remove_directory(place)
    tables.say(f"{len(infos) + len(damaged)} removed, {len(manager.all_steps())} left.")


def _infos(manager: CheckpointManager, steps: Iterable[int]) -> tuple[dict[int, CheckpointInfo], dict[int, str]]:
    """What steps hold, and what is wrong with the others."""
    infos: dict[int, CheckpointInfo] = {}
    damaged: dict[int, str] = {}
    for step in steps:
        try:
            infos[step] = manager.inspect(step)
        except (FxError, OSError) as error:
            damaged[step] = str(error)
    return infos, damaged


def _is_checkpoint(path: Path) -> bool:
    return (settled(path) / MANIFEST).exists()


def _steps(path: Path) -> list[Path]:
    manager = CheckpointManager(path)
    return [manager.path(step) for step in manager.all_steps()]


def _one(path: Path, step: int | None) -> Path:
    """The checkpoint at a path, or a step in it."""
    if step is None and _is_checkpoint(path):
        return path
    return CheckpointManager(path).inspect(step).path


def _at(path: Path) -> Path:
    base, at, step = str(path).rpartition("@")
    return _one(Path(base), int(step)) if at and step.isdecimal() and not path.exists() else _one(path, None)
