"""Tables about checkpoints."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fx_ckpt.cli.differences import Difference
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.structure import Leaf


def say(markup: str) -> None:
    """Print a line."""
    Console().print(markup, highlight=False, soft_wrap=True)


def bytes_text(size: int) -> str:
    """A number of bytes for people.

    >>> bytes_text(512), bytes_text(5_000_000)
    ('512 B', '4.8 MiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    power = min(len(units) - 1, int(math.log(size, 1024)) if size else 0)
    return f"{size} B" if power == 0 else f"{size / 1024**power:.1f} {units[power]}"


def summary(info: CheckpointInfo) -> dict[str, Any]:
    """What a checkpoint says of itself, as JSON."""
    return {
        "path": str(info.path),
        "step": info.step,
        "backend": info.backend,
        "backend_reason": info.backend_reason,
        "size": info.size,
        "created": info.created,
        "metrics": {name: value if math.isfinite(value) else str(value) for name, value in info.metrics.items()},
        "metadata": info.metadata,
        "written_by": dict(info.written_by),
    }


def leaves(info: CheckpointInfo) -> list[dict[str, Any]]:
    """The leaves of a checkpoint, as JSON."""
    return [
        {"path": path, "kind": leaf.kind, "dtype": leaf.dtype, "shape": list(leaf.shape), "sharding": leaf.sharding}
        for path, leaf in info.leaves().items()
    ]


def show_steps(path: Path, infos: Sequence[CheckpointInfo]) -> None:
    """Show the steps of a manager."""
    names = list(dict.fromkeys(name for info in infos for name in info.metrics))
    table = Table("step", "size", "backend", "leaves", "created (UTC)", title=str(path), title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for info in infos:
        metrics = [f"{info.metrics[name]:.6g}" if name in info.metrics else "" for name in names]
        created = info.created.replace("T", " ").removesuffix("+00:00")
        row = [str(info.step), bytes_text(info.size), info.backend, str(len(info.leaves())), created, *metrics]
        table.add_row(*map(escape, row))
    Console().print(table)


def show_checkpoint(info: CheckpointInfo) -> None:
    """Show one checkpoint."""
    written = ", ".join(f"{name} {version}" for name, version in info.written_by.items())
    step = "" if info.step is None else f"step {info.step}, "
    say(f"[bold]{escape(str(info.path))}[/]")
    say(escape(f"{step}{bytes_text(info.size)}, {info.created}, by {written}"))
    say(escape(f"backend {info.backend}: {info.backend_reason}"))
    for label, values in {"metrics": info.metrics, "metadata": info.metadata}.items():
        if values:
            say(escape(f"{label}: " + ", ".join(f"{name} = {value}" for name, value in values.items())))
    table = Table("path", "dtype", "shape", "sharding", "size")
    for path, leaf in info.leaves().items():
        table.add_row(*map(escape, _row(path, leaf)))
    Console().print(table)


def show_differences(lines: Iterable[Difference]) -> None:
    """Show what differs."""
    lines = list(lines)
    if not lines:
        say("no differences")
        return
    table = Table("path", "first", "second", "largest difference")
    for line in lines:
        table.add_row(
            *map(escape, (line.path, line.first, line.second)), "" if line.largest is None else f"{line.largest:.3g}"
        )
    Console().print(table)


def _row(path: str, leaf: Leaf) -> tuple[str, ...]:
    if leaf.kind not in ("array", "key"):
        return path, str(leaf), "", "", ""
    dtype = leaf.dtype or f"key {leaf.impl}"
    size = "" if leaf.size is None else bytes_text(leaf.size)
    return path, dtype, str(list(leaf.shape)), leaf.sharding, size
