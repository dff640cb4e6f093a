"""Tables about checkpoints, and the one way of text from files to the terminal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fx_core.terminal import plain
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fx_ckpt.cli.differences import Difference
from fx_ckpt.info import CheckpointInfo
from fx_ckpt.structure import Leaf


def say(*parts: str | tuple[str, str]) -> None:
    """Print a line of texts, each alone or with a style."""
    pieces = [(part, "") if isinstance(part, str) else part for part in parts]
    # As texts, not markup: brackets in names are no styles.
    line = Text.assemble(*((plain(text), style) for text, style in pieces))
    Console().print(line, highlight=False, soft_wrap=True)


def _cell(value: Any) -> Text:
    return Text(plain(str(value)).replace("\n", "\\n"))


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


def show_steps(path: Path, infos: Sequence[CheckpointInfo], damaged: Mapping[int, str]) -> None:
    """Show the steps of a manager, and what is wrong with those that cannot be read."""
    names = list(dict.fromkeys(name for info in infos for name in info.metrics))
    table = Table("step", "size", "backend", "leaves", "created (UTC)", title=_cell(path), title_justify="left")
    for name in names:
        table.add_column(_cell(name), justify="right")
    for info in infos:
        metrics = [f"{info.metrics[name]:.6g}" if name in info.metrics else "" for name in names]
        created = info.created.replace("T", " ").removesuffix("+00:00")
        row = [str(info.step), bytes_text(info.size), info.backend, str(len(info.leaves())), created, *metrics]
        table.add_row(*map(_cell, row))
    Console().print(table)
    for step, problem in damaged.items():
        say((f"step {step} cannot be read", "bold red"), "\n", problem)


def show_checkpoint(info: CheckpointInfo) -> None:
    """Show one checkpoint."""
    written = ", ".join(f"{name} {version}" for name, version in info.written_by.items())
    step = "" if info.step is None else f"step {info.step}, "
    say((str(info.path), "bold"))
    say(f"{step}{bytes_text(info.size)}, {info.created}, by {written}")
    say(f"backend {info.backend}: {info.backend_reason}")
    for label, values in {"metrics": info.metrics, "metadata": info.metadata}.items():
        if values:
            say(f"{label}: " + ", ".join(f"{name} = {value}" for name, value in _items(values)))
    table = Table("path", "dtype", "shape", "sharding", "size")
    for path, leaf in info.leaves().items():
        table.add_row(*map(_cell, _row(path, leaf)))
    Console().print(table)


def show_differences(lines: Iterable[Difference]) -> None:
    """Show what differs."""
    lines = list(lines)
    if not lines:
        say("no differences")
        return
    table = Table("path", "first", "second", "largest difference")
    for line in lines:
        largest = "" if line.largest is None else f"{line.largest:.3g}"
        table.add_row(*map(_cell, (line.path, line.first, line.second, largest)))
    Console().print(table)


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
