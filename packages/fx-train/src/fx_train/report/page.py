"""The page."""

import importlib.resources
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fx_core.pages import Section, html_page, tile, tiles
from fx_core.pages import escaped as _

from fx_train._writing import writing
from fx_train.errors import RunFileError, damaged_record
from fx_train.report.curves import chart, groups
from fx_train.report.numbers import duration, moment, number
from fx_train.report.records import RunRecords, Series, read_run
from fx_train.report.tables import confusion, facts, parameters

TILES = 12
"""How many metrics are shown at the top; all have their curves."""

_SMOOTHING = (
    '<label id="smoothing" hidden>smoothing <input type="range" min="0" max="0.98" step="0.02" value="0"></label>'
)


def write_report(run: str | Path, output: str | Path | None = None) -> Path:
    """Writes a page about a run, which needs nothing besides itself.

    Args:
      run: directory of the run, with what `fx_train.Log` (``"jsonl"`` or ``"csv"``) and `fx_train.Describe` wrote.
      output: the file to write; ``report.html`` in the directory by default.

    Returns:
      The file.

    Raises:
      RunFileError: the directory has no records.
      RunFileError: they are damaged.
      RunFileError: the file cannot be written.
    """
    file = Path(run) / "report.html" if output is None else Path(output)
    records = read_run(run)
    try:
        content = page(records)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # What JSON holds may have any form, if somebody else wrote it.
        raise damaged_record(str(Path(run) / "run.json"), f"{type(error).__name__}: {error}") from error
    draft = file.with_name(file.name + ".tmp")
    with writing(file, _report_not_written):
        if file.is_dir():
            raise IsADirectoryError("it is a directory")
        draft.write_text(content, encoding="utf-8", errors="xmlcharrefreplace")
        os.replace(draft, file)
    return file


def page(records: RunRecords) -> str:
    """Returns the page as HTML."""
    resources = importlib.resources.files("fx_train.report")
    about = records.about
    # Names may hold anything, numbers do not.
    matrices = [
        Section(f"confusion-{i}", f"Confusion matrix: {name}", confusion(table))
        for i, (name, table) in enumerate(about.get("confusion", {}).items())
    ]
    sections = [
        Section("curves", "Curves", _curves(records), _SMOOTHING),
        *matrices,
        Section("parameters", "Parameters", parameters(about.get("parameters", []))),
        Section("config", "Configuration", facts(about.get("config", {}))),
        Section("environment", "Environment", facts(about.get("environment", {}))),
    ]
    style = (resources / "page.css").read_text(encoding="utf-8")
    script = (resources / "page.js").read_text(encoding="utf-8")
    return html_page(records.name, _header(records), sections, style=style, script=script)


def _header(records: RunRecords) -> str:
    about = records.about
    outcome = str(about.get("outcome", "unknown"))
    kind = outcome.split(":")[0] if outcome.split(":")[0] in ("done", "running", "stopped", "unknown") else "failed"
    shown = f'<p class="outcome">{_(outcome)}</p>' if kind in ("failed", "stopped") else ""
    badge = "" if kind == "unknown" else f' <span class="badge {kind}">{kind}</span>'
    shown_tiles = _tiles(records)
    when = "".join(f'<span class="fact">{_(fact)}</span>' for fact in _when(records, kind))
    return f"<header><h1><span>{_(records.name)}</span>{badge}</h1><p>{when}</p>{shown}</header>{shown_tiles}"


def _when(records: RunRecords, kind: str) -> Iterable[str]:
    about = records.about
    if "step" in about:
        # While a run goes on, its records know better than what it wrote at its start.
        last = max((max(series) for series in records.metrics.values() if series), default=0)
        step = max(about["step"], last) if kind == "running" else about["step"]
        yield f"{step:,} of {about.get('total_steps', step):,} steps"
    if "started" in about:
        yield moment(about["started"])
    if "started" in about and "ended" in about:
        yield duration(about["ended"] - about["started"])
    elif kind == "running" and records.latest is not None:
        yield f"last entry {moment(records.latest)}"


def _shown(records: RunRecords) -> Mapping[str, Series]:
    """Metrics with values; not the accuracy of a confusion matrix if it is among them under another name."""
    matrices = set(records.about.get("confusion", {}))
    others = [series for name, series in records.metrics.items() if name not in matrices]
    return {name: each for name, each in records.metrics.items() if each and not (name in matrices and each in others)}


def _tiles(records: RunRecords) -> str:
    values = _shown(records)
    shown = [(name, values[name]) for _title, members in _ordered(values) for name in members.values()][:TILES]
    return tiles([tile(name, number(list(series.values())[-1]), _range(series)) for name, series in shown])


def _range(series: Series) -> str:
    finite = [value for value in series.values() if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    return f"{number(min(finite))} … {number(max(finite))}"


def _curves(records: RunRecords) -> str:
    shown = _shown(records)
    charts = [
        chart(title, {label: shown[name] for label, name in members.items()}) for title, members in _ordered(shown)
    ]
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _ordered(names: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """The loss first, then what was measured in several ways, then the rest."""
    return sorted(groups(names).items(), key=lambda item: (item[0] != "loss", len(item[1]) < 2))


def _report_not_written(file: str, problem: str) -> RunFileError:
    return RunFileError(
        "The report cannot be written.",
        path=file,
        expected="a file in a directory that is there and may be written",
        got=problem,
        fix="Name another file: fx report RUN --output FILE, or write_report(run, file).",
    )
