"""What a run left in its directory."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fx_train.errors import RunFileError, damaged_record

Series = dict[int, float]
"""Value by step."""


@dataclasses.dataclass(frozen=True)
class RunRecords:
    """What is known of a run.

    Attributes:
      name: name of its directory.
      metrics: for each metric its values by step, in order.
      about: content of ``run.json`` (`fx_train.Describe`), empty without one.
      latest: when the last metric was logged, in seconds since 1970; None if nothing says so.
    """

    name: str
    metrics: Mapping[str, Series]
    about: Mapping[str, Any]
    latest: float | None = None


def read_run(directory: str | Path) -> RunRecords:
    """Reads ``metrics.jsonl`` or ``metrics.csv``, and ``run.json``, as far as they are there.

    A step that was logged twice, by a run that was killed and resumed, counts as it was logged last.

    Raises:
      RunFileError: the directory has none of them.
      RunFileError: one of them is damaged, or cannot be read.
    """
    directory = Path(directory)
    lines, table, about = (directory / name for name in ("metrics.jsonl", "metrics.csv", "run.json"))
    if not any(file.exists() for file in (lines, table, about)):
        raise RunFileError(
            "There is no run to report on.",
            path=str(directory),
            expected="metrics.jsonl, metrics.csv or run.json",
            got="none of them",
            fix='Train with the callbacks Log("jsonl", every=...) and Describe(), or name the right directory.',
        )
    rows: Iterable[tuple[int, Any]] = _lines(lines) if lines.exists() else _rows(table) if table.exists() else ()
    metrics: dict[str, Series] = {}
    latest = None
    for number, row in rows:
        try:
            step = _step(row["step"])
            for name, value in row.items():
                if name == "time":
                    latest = _moment(value)
                elif name != "step":
                    metrics.setdefault(name, {})[step] = float(value)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise damaged_record(
                str(lines if lines.exists() else table),
                f"line {number} is no entry with a step and numbers ({type(error).__name__}: {error})",
            ) from error
    ordered = {name: dict(sorted(series.items())) for name, series in metrics.items()}
    return RunRecords(directory.resolve().name, ordered, _json(about) if about.exists() else {}, latest)


def _step(value: Any) -> int:
    # Rows of a table are texts. Numbers of the page are those of JavaScript.
    step = int(value) if type(value) in (int, str) else None
    if step is None or not 0 <= step < 2**53:
        raise ValueError(f"{str(value)[:80]} is no step")
    return step


def _moment(value: Any) -> float:
    moment = float(value)
    if not 0 <= moment < 2**37:
        raise ValueError(f"{moment} is no time in seconds since 1970")
    return moment


def _text(file: Path) -> str:
    try:
        whole, end, half = file.read_bytes().rpartition(b"\n")
        # A killed process may leave half a character at the end.
        return (whole + end).decode() + half.decode(errors="replace")
    except (OSError, UnicodeDecodeError) as error:
        raise damaged_record(str(file), f"it cannot be read as text ({error})") from error


def _lines(file: Path) -> Iterable[tuple[int, Any]]:
    content = _text(file).split("\n")
    for number, line in enumerate(content, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(content) and isinstance(error, json.JSONDecodeError):
                break  # a killed process may leave half a line at the end
            raise damaged_record(str(file), f"line {number}: {error}") from error


def _rows(file: Path) -> Iterable[tuple[int, Any]]:
    content = _text(file)
    # What follows the last end of a line is half a row, and its last number may be half a number.
    reader = csv.DictReader(io.StringIO(content[: content.rfind("\n") + 1], newline=""))
    try:
        for row in reader:
            yield reader.line_num, {name: value for name, value in row.items() if value not in ("", None)}
    except csv.Error as error:
        raise damaged_record(str(file), f"line {reader.line_num}: {error}") from error


def _json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise damaged_record(str(file), str(error)) from error
    if not isinstance(content, dict):
        raise damaged_record(str(file), f"{type(content).__name__} instead of an object")
    return content


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
        broken = [point for point in part if not math.isfinite(point[1])]
        kept |= {broken[0], broken[-1]} if broken else set()
        if finite:
            kept |= {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
    return sorted(kept)
