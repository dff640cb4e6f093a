"""Tables about checkpoints, and the one way of text from files to the terminal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from fx_core.terminal import plain, table_text
from rich.console import Console
from rich.text import Text

from fx_ckpt.cli.differences import Difference
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.tree.structure import Leaf


def say(*parts: str | tuple[str, str]) -> None:
    """Prints a line of texts, each alone or with a style."""
    pieces = [(part, "") if isinstance(part, str) else part for part in parts]
    # As texts, not markup: brackets in names are no styles.
    line = Text.assemble(*((plain(text), style) for text, style in pieces))
    Console().print(line, highlight=False, soft_wrap=True)


def bytes_text(size: int) -> str:
    """Returns a number of bytes as text for people.

    >>> bytes_text(512), bytes_text(5_000_000)
    ('512 B', '4.8 MiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    power = min(len(units) - 1, int(math.log(size, 1024)) if size else 0)
    return f"{size} B" if power == 0 else f"{size / 1024**power:.1f} {units[power]}"


def summary(info: CheckpointInfo) -> dict[str, Any]:
    """Returns the header of a checkpoint, as JSON."""
    return {
        "path": str(info.path),
        "step": info.step,
        "backend": info.backend,
        "backend_reason": info.backend_reason,
        "size": info.size,
        "created": info.created,
        "metrics": {name: value if math.isfinite(value) else str(value) for name, value in info.metrics.items()},
        "metadata": info.metadata,
        "left_out": list(info.left_out),
        "written_by": dict(info.written_by),
    }


def leaves(info: CheckpointInfo) -> list[dict[str, Any]]:
    """Returns the leaves of a checkpoint, as JSON."""
    return [
        {"path": path, "kind": leaf.kind, "dtype": leaf.dtype, "shape": list(leaf.shape), "sharding": leaf.sharding}
        for path, leaf in info.leaves().items()
    ]


def show_steps(path: Path, infos: Sequence[CheckpointInfo], damaged: Mapping[int, str]) -> None:
    """Shows the steps of a manager, and what is wrong with those that cannot be read."""
    names = list(dict.fromkeys(name for info in infos for name in info.metrics))
    rows = []
    for info in infos:
        metrics = [f"{info.metrics[name]:.6g}" if name in info.metrics else "" for name in names]
        created = info.created[:19].replace("T", " ")
        rows.append(
            [str(info.step), bytes_text(info.size), info.backend, str(len(info.leaves())), created, *metrics],
        )
    say((str(path), "bold"))
    columns = ["step", "size", "backend", "leaves", "created (UTC)", *names]
    total = [_count(len(rows), "step"), bytes_text(sum(info.size for info in infos)), *[""] * (len(columns) - 2)]
    if rows:
        _print(columns, rows, total, right=["size", "leaves", *names])
    for step, problem in damaged.items():
        say((f"step {step} cannot be read", "bold red"), "\n", problem)


def show_checkpoint(info: CheckpointInfo) -> None:
    """Shows one checkpoint."""
    written = ", ".join(f"{name} {version}" for name, version in info.written_by.items())
    step = "" if info.step is None else f"step {info.step}, "
    say((str(info.path), "bold"))
    say(f"{step}{bytes_text(info.size)}, {info.created}, by {written}")
    say(f"backend {info.backend}: {info.backend_reason}")
    for label, values in {"metrics": info.metrics, "metadata": info.metadata}.items():
        if values:
            say(f"{label}: " + ", ".join(f"{name} = {value}" for name, value in _items(values)))
    if info.left_out:
        say("not stored, by saved=False of their collections: " + ", ".join(info.left_out))
    found = info.leaves()
    rows = [_row(path, leaf) for path, leaf in found.items()]
    size = sum(leaf.size or 0 for leaf in found.values() if leaf.kind in ("array", "key"))
    total = (_count(len(rows), "leaf", "leaves"), "", "", "", bytes_text(size))
    _print(["path", "dtype", "shape", "sharding", "size"], rows, total, right=["size"])


def show_differences(lines: Iterable[Difference]) -> None:
    """Shows what differs."""
    lines = list(lines)
    if not lines:
        say("no differences")
        return
    rows = [
        (line.path, line.first, line.second, "" if line.largest is None else f"{line.largest:.3g}") for line in lines
    ]
    found = [line.largest for line in lines if line.largest is not None]
    total = (_count(len(lines), "difference"), "", "", f"{max(found):.3g}" if found else "")
    _print(["path", "first", "second", "largest difference"], rows, total, right=["largest difference"])


def show_checked(row: Mapping[str, Any]) -> None:
    """Shows that a checkpoint is whole, or what is wrong with it."""
    if row["problem"] is None:
        say(("whole", "green"), f"    {row['path']}  {bytes_text(row['size'])}")
    else:
        say(("damaged", "bold red"), f"  {row['path']}\n{row['problem']}")


def show_total(rows: Sequence[Mapping[str, Any]]) -> None:
    """Shows how many of several checkpoints are whole."""
    whole = [row["size"] for row in rows if row["problem"] is None]
    say(f"total: {len(whole)} of {len(rows)} without damage, {bytes_text(sum(whole))}")


def _print(
    columns: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str], right: Sequence[str] = ()
) -> None:
    click.echo(table_text(columns, rows, total=total, right=right))


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _items(values: Any) -> Iterable[tuple[Any, Any]]:
    return (
        values.items() if isinstance(values, Mapping) else enumerate(values if isinstance(values, list) else [values])
    )


def _row(path: str, leaf: Leaf) -> tuple[str, ...]:
    if leaf.kind not in ("array", "key"):
        return path, str(leaf), "", "", ""
    dtype = leaf.dtype or f"key {leaf.impl}"
    size = "" if leaf.size is None else bytes_text(leaf.size)
    return path, dtype, str(list(leaf.shape)), leaf.sharding, size
