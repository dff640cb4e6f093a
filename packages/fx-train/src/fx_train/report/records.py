"""What a run left in its directory."""

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fx_train.errors import NoRunError, RunFileError

Series = dict[int, float]
"""Value by step."""


@dataclasses.dataclass(frozen=True)
class RunRecords:
    """What is known of a run.

    Attributes:
      name: name of its directory.
      metrics: for each metric its values by step, in order.
      about: content of ``run.json`` (`fx_train.Describe`), empty without one.
    """

    name: str
    metrics: Mapping[str, Series]
    about: Mapping[str, Any]


def read_run(directory: str | Path) -> RunRecords:
    """Read ``metrics.jsonl`` or ``metrics.csv``, and ``run.json``, as far as they are there.

    A step that was logged twice, by a run that was killed and resumed, counts as it was logged last.

    Raises:
      NoRunError: the directory has none of them.
      RunFileError: one of them is damaged.
    """
    directory = Path(directory)
    lines, table, about = (directory / name for name in ("metrics.jsonl", "metrics.csv", "run.json"))
    if not any(file.exists() for file in (lines, table, about)):
        raise NoRunError(str(directory))
    rows: Iterable[Mapping[str, Any]] = _lines(lines) if lines.exists() else _rows(table) if table.exists() else ()
    metrics: dict[str, Series] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "time"):
                metrics.setdefault(name, {})[int(row["step"])] = float(value)
    ordered = {name: dict(sorted(series.items())) for name, series in metrics.items()}
    return RunRecords(directory.resolve().name, ordered, _json(about) if about.exists() else {})


def _lines(file: Path) -> list[Mapping[str, Any]]:
    content = file.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(content, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(content):
                break  # a killed process may leave half a line at the end
            raise RunFileError(str(file), f"line {number}: {error}") from error
    return rows


def _rows(file: Path) -> list[Mapping[str, Any]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return [
            {name: value for name, value in row.items() if value not in ("", None)} for row in csv.DictReader(stream)
        ]


def _json(file: Path) -> Mapping[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFileError(str(file), str(error)) from error


def thinned(series: Series, limit: int = 800) -> list[tuple[int, float]]:
    """At most about ``limit`` points that look like all of them: of each stretch the smallest and the largest."""
    points = list(series.items())
    if len(points) <= limit:
        return points
    stretch = math.ceil(len(points) / (limit // 2))
    kept: set[tuple[int, float]] = {points[0], points[-1]}
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        finite = [point for point in part if math.isfinite(point[1])]
        # A point that is not finite makes a gap in the curve, which must not be thinned away.
        kept |= {point for point in part if not math.isfinite(point[1])} if len(finite) < len(part) else set()
        if finite:
            kept |= {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
    return sorted(kept)
