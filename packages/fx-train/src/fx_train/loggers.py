"""Loggers of fx-train; `fx_train.Log` finds them by name."""

import csv
import io
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from fx_core.terminal import plain

from fx_train._writing import writing
from fx_train.errors import MetricError, RunFileError

OWN = ("step", "time")
"""What entries hold besides metrics."""

_ENTRY = re.compile(rb'\{"step": (\d+), "time": ([^,}]+)')


class JsonLinesLogger:
    """Appends one JSON object per entry to ``metrics.jsonl``: step, wall-clock time in seconds, metrics.

    A resumed run appends to the file of the interrupted one. Entries that this has from the first step of the resumed
    one on were computed anew: they move to ``metrics.replaced.jsonl``.

    JSON has no numbers that are not finite: these are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, of
    which `float` makes the numbers again.

    Args:
      directory: where the file lies.
    """

    def __init__(self, directory: Path):
        self._path = Path(directory) / "metrics.jsonl"
        self._opened, self._resumed = time.time(), False
        with writing(self._path):
            if self._path.exists():
                _cut_half_line(self._path)
                self._resumed = True
            # Line buffering: a killed run leaves whole lines.
            self._file = self._path.open("a", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one line.

        Raises:
          MetricError: a metric is called ``step`` or ``time``.
          RunFileError: the file cannot be written.
        """
        _check_names(metrics)
        entry = {"step": step, "time": time.time(), **{name: _plain(value) for name, value in metrics.items()}}
        with writing(self._path):
            if self._resumed:
                self._replace(step)
            self._file.write(json.dumps(entry, allow_nan=False) + "\n")

    def close(self) -> None:
        """Closes the file."""
        with writing(self._path):
            self._file.close()

    def _replace(self, step: int) -> None:
        self._resumed = False
        kept: list[bytes] = []
        replaced: list[bytes] = []
        for line in self._path.read_bytes().splitlines(keepends=True):
            entry = _ENTRY.match(line)
            later = entry is not None and _is_later(entry.groups(), step, self._opened)
            (replaced if later else kept).append(line)
        if replaced:
            with self._path.with_name("metrics.replaced.jsonl").open("ab") as file:
                file.writelines(replaced)
            draft = self._path.with_suffix(".jsonl.tmp")
            draft.write_bytes(b"".join(kept))
            os.replace(draft, self._path)
        self._file.close()
        self._file = self._path.open("a", buffering=1, encoding="utf-8")


class CsvLogger:
    """Appends one row per entry to ``metrics.csv``: step, time, one column per metric, empty where there is none.

    A metric that comes later gets a new column, for which the file is written anew. A resumed run appends to the file
    of the interrupted one. Rows that this has from the first step of the resumed one on were computed anew: they move
    to ``metrics.replaced.csv``.

    Args:
      directory: where the file lies.

    Raises:
      RunFileError: there is a ``metrics.csv`` that is not such a table.
      RunFileError: the file cannot be written.
    """

    def __init__(self, directory: Path):
        self._path = Path(directory) / "metrics.csv"
        self._columns = list(OWN)
        self._opened, self._resumed = time.time(), False
        with writing(self._path):
            if self._path.exists() and self._path.stat().st_size:
                self._columns = next(iter(self._rows()), [])
                if tuple(self._columns[:2]) != OWN:
                    raise _foreign_table(str(self._path), self._columns)
                _cut_half_line(self._path)
                self._resumed = True
            else:
                self._write(self._path, [])
            self._file = self._path.open("a", newline="", buffering=1, encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Appends one row.

        Raises:
          MetricError: a metric is called ``step`` or ``time``.
          RunFileError: the file cannot be written.
        """
        _check_names(metrics)
        row = {"step": step, "time": time.time(), **metrics}
        with writing(self._path):
            if self._resumed:
                self._replace(step)
            if new := [name for name in metrics if name not in self._columns]:
                self._widen(new)
            csv.writer(self._file).writerow([row.get(name, "") for name in self._columns])

    def close(self) -> None:
        """Closes the file."""
        with writing(self._path):
            self._file.close()

    def _replace(self, step: int) -> None:
        self._resumed = False
        self._columns, *rows = self._rows()
        later = [_is_later(row[:2], step, self._opened) for row in rows]
        if any(later):
            with self._path.with_name("metrics.replaced.csv").open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([self._columns, *(row for row, replaced in zip(rows, later) if replaced)])
            self._rewrite([row for row, replaced in zip(rows, later) if not replaced])
        else:
            self._reopen()

    def _widen(self, names: list[str]) -> None:
        rows = list(self._rows())[1:]
        self._columns += names
        self._rewrite([row + [""] * (len(self._columns) - len(row)) for row in rows])

    def _rewrite(self, rows: list[list[str]]) -> None:
        self._file.close()
        draft = self._path.with_suffix(".csv.tmp")
        self._write(draft, rows)
        os.replace(draft, self._path)
        self._reopen()

    def _reopen(self) -> None:
        self._file.close()
        self._file = self._path.open("a", newline="", buffering=1, encoding="utf-8")

    def _rows(self) -> Iterator[list[str]]:
        try:
            with self._path.open(newline="", encoding="utf-8") as file:
                yield from csv.reader(file)
        except (csv.Error, UnicodeDecodeError) as error:
            raise _foreign_table(str(self._path), [f"what cannot be read as a table ({error})"]) from error

    def _write(self, path: Path, rows: list[list[str]]) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self._columns, *rows])


class ConsoleLogger:
    """Prints one line per entry, for logs of batch systems, where a progress bar is of no use.

    Args:
      directory: not used; all loggers get it.
      file: where to print; standard output by default.
    """

    def __init__(self, directory: Path | None = None, file: TextIO | None = None):
        self._file = file
        self._started = time.monotonic()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Prints a line."""
        seconds = int(time.monotonic() - self._started)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        values = "  ".join(f"{plain(name)} {value:.5g}" for name, value in metrics.items())
        print(f"[{clock}] step {step}  {values}", file=self._file or sys.stdout, flush=True)

    def close(self) -> None:
        """Nothing is open."""


class TensorBoardLogger:
    """Writes scalars for TensorBoard into the directory. Needs the extra ``fx-train[tensorboard]``.

    A resumed run writes a file of its own; from its first step on, what the interrupted one wrote does not count.

    Args:
      directory: where the event file lies.
    """

    def __init__(self, directory: Path):
        # Here, so that the other loggers work without the extra.
        from fx_train.tensorboard import SummaryWriter

        self._writer = SummaryWriter(directory, auto_flush=False)
        self._begun = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes one scalar per metric."""
        if not self._begun:
            self._writer.supersede(step)
            self._begun = True
        for name, value in metrics.items():
            self._writer.scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def _is_later(step_and_time: Sequence[str | bytes], step: int, opened: float) -> bool:
    """Whether an entry is of this step or one after it, and of an earlier run."""
    try:
        found, moment = step_and_time
        return int(found) >= step and float(moment) < opened
    except ValueError:
        return False  # none of ours


def _check_names(metrics: Mapping[str, float]) -> None:
    for name in OWN:
        if name in metrics:
            raise _reserved_metric(name)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _cut_half_line(path: Path) -> None:
    """Remove what a full disk or a power cut left of a last line, which the next one would otherwise join."""
    with path.open("rb+") as file:
        keep = file.seek(0, io.SEEK_END)
        while keep and (file.seek(keep - 1), file.read(1))[1] != b"\n":
            keep -= 1
        file.seek(keep)
        half = file.read()
        if (half.startswith(b'{"step"') and not half.endswith(b"}")) or half[:1].isdigit():
            file.truncate(keep)
        elif half:  # a whole entry, or none of ours: only its end is missing
            file.write(b"\n")


def _reserved_metric(name: str) -> MetricError:
    return MetricError(
        f"No metric can be called {name!r} here.",
        expected="names besides 'step' and 'time', which every entry has",
        got=repr(name),
        fix=f"Call it {f'eval/{name}'!r}, or {f'{name}s'!r}.",
    )


def _foreign_table(file: str, columns: Sequence[str]) -> RunFileError:
    return RunFileError(
        "There is another table where metrics belong.",
        path=file,
        expected="the columns step, time, ...",
        got=", ".join(columns),
        fix="Move the file away, or give the run another directory.",
    )
