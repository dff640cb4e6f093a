"""The commands below ``fx ckpt``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from fx_core.cli.guarded import GuardedGroup
from fx_core.errors import FxError
from fx_core.files import MANIFEST, remove_directory, settled
from fx_core.manifests import foreign
from fx_core.terminal import plain

from fx_ckpt import converting
from fx_ckpt import operations as checkpoint
from fx_ckpt.cli import tables
from fx_ckpt.cli.differences import differences
from fx_ckpt.draft import FORMAT, OWN
from fx_ckpt.errors import no_checkpoint
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.manager import CheckpointManager

_JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
_STEP = click.option("--step", type=int, help="Which step, in the directory of a manager; the newest by default.")
# Where programs with `fx_train.Run` and a manager keep the checkpoints of a run.
CHECKPOINTS = "checkpoints"
_PATH = click.argument("path", type=click.Path(path_type=Path))


@click.group(cls=GuardedGroup)
def ckpt() -> None:
    """Look at checkpoints, check, compare, convert and remove them."""


@ckpt.command()
@_PATH
@_JSON
def ls(path: Path, as_json: bool) -> None:
    """List the checkpoints of a run or a manager.

    The table has their steps, sizes and metrics.

    PATH is a directory of checkpoints, or that of a run, which has them in PATH/checkpoints. The exit code is 1 if
    there are none, or if one cannot be read.
    """
    _steps(path)
    manager = _manager(path)
    infos, damaged = _infos(manager, manager.all_steps())
    if as_json:
        unread = [{"step": step, "problem": problem} for step, problem in damaged.items()]
        click.echo(json.dumps([*map(tables.summary, infos.values()), *unread], indent=2))
    else:
        tables.show_steps(manager.directory, list(infos.values()), damaged)
    if damaged:
        raise SystemExit(1)


@ckpt.command()
@_PATH
@_STEP
@_JSON
def inspect(path: Path, step: int | None, as_json: bool) -> None:
    """Show what a checkpoint holds.

    That is each array with its dtype, shape and sharding, then metrics and metadata.
    """
    info = checkpoint.inspect(_one(path, step))
    if as_json:
        click.echo(json.dumps({**tables.summary(info), "leaves": tables.leaves(info)}, indent=2))
    else:
        tables.show_checkpoint(info)


@ckpt.command()
@_PATH
@_STEP
@_JSON
def verify(path: Path, step: int | None, as_json: bool) -> None:
    """Check every byte of a checkpoint, or of every step.

    The exit code is 1 if anything is damaged.
    """
    paths = [_one(path, step)] if step is not None or _is_checkpoint(path) else _steps(path)
    rows = []
    for one in paths:
        rows.append(_checked(one))
        if not as_json:
            tables.show_checked(rows[-1])
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif len(rows) > 1:
        tables.show_total(rows)
    if any(row["problem"] for row in rows):
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
@_JSON
def convert(path: Path, to: str, out: Path | None, step: int | None, as_json: bool) -> None:
    """Write a checkpoint in the format of another backend."""
    new = checkpoint.inspect(converting.convert(_one(path, step), to, out))
    if as_json:
        click.echo(json.dumps(tables.summary(new), indent=2))
    else:
        tables.say(f"{new.path}: {new.backend}, {tables.bytes_text(new.size)}")


@ckpt.command()
@_PATH
@click.argument("steps", nargs=-1, type=int, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_JSON
def rm(path: Path, steps: tuple[int, ...], yes: bool, as_json: bool) -> None:
    """Remove steps of a run or a manager, whole or damaged.

    Of a step that is a link, the link is removed.
    """
    manager = _manager(path)
    there = manager.all_steps()
    for step in steps:
        if step not in there:
            raise no_checkpoint(str(manager.directory), step, there)
    infos, damaged = _infos(manager, dict.fromkeys(steps))
    size = sum(info.size for info in infos.values())
    if not yes:
        named = ", ".join(map(str, dict.fromkeys(steps)))
        more = f", and {len(damaged)} that cannot be read" if damaged else ""
        question = f"Remove step {named} of {manager.directory} ({tables.bytes_text(size)}{more})?"
        click.confirm(plain(question), abort=True, err=as_json)
    for step in dict.fromkeys(steps):
        place = settled(manager.path(step))
        found = None if place.is_symlink() else foreign(place, FORMAT, OWN)
        if found is not None:
            raise click.ClickException(plain(f"{place} is kept: it is {found}. Move away what is not fx's."))
        remove_directory(place)
    left = manager.all_steps()
    if as_json:
        click.echo(json.dumps({"removed": [*infos, *damaged], "left": left, "bytes": size}, indent=2))
    else:
        tables.say(f"{len(infos) + len(damaged)} removed, {len(left)} left.")


def _manager(path: Path) -> CheckpointManager:
    """The manager of a directory of checkpoints, or of the run in a directory."""
    manager = CheckpointManager(path)
    below = settled(path) / CHECKPOINTS
    return CheckpointManager(path / CHECKPOINTS) if below.is_dir() and not manager.all_steps() else manager


def _steps(path: Path) -> list[Path]:
    """The checkpoints in a directory, at least one."""
    if not path.exists():
        raise click.ClickException(plain(f"There is no such directory: {path}"))
    manager = _manager(path)
    steps = manager.all_steps()
    if not steps:
        manager.inspect()  # raises, and says what is there instead
    return [manager.path(step) for step in steps]


def _checked(path: Path) -> dict[str, Any]:
    """What a look at every byte of a checkpoint finds."""
    try:
        return {"path": str(path), "size": checkpoint.verify(path).size, "problem": None}
    except (FxError, OSError) as error:
        return {"path": str(path), "size": None, "problem": str(error)}


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


def _one(path: Path, step: int | None) -> Path:
    """The checkpoint at a path, or a step in it."""
    if step is None and _is_checkpoint(path):
        return path
    _steps(path)
    return _manager(path).inspect(step).path


def _at(path: Path) -> Path:
    base, at, step = str(path).rpartition("@")
    return _one(Path(base), int(step)) if at and step.isdecimal() and not path.exists() else _one(path, None)
