"""The page."""

import datetime
import html
import importlib.resources
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fx_train.report.curves import LEFT, RIGHT, WIDTH, chart, groups
from fx_train.report.records import RunRecords, read_run, thinned


def write_report(run: str | Path, output: str | Path | None = None) -> Path:
    """Write a page about a run, which needs nothing besides itself.

    Args:
      run: directory of the run, with what `fx_train.Log` (``"jsonl"`` or ``"csv"``) and `fx_train.Describe` wrote.
      output: the file to write; ``report.html`` in the directory by default.

    Returns:
      The file.

    Raises:
      NoRunError: the directory has no records.
      RunFileError: they are damaged.
    """
    file = Path(run) / "report.html" if output is None else Path(output)
    content = page(read_run(run))
    draft = file.with_name(file.name + ".tmp")
    draft.write_text(content, encoding="utf-8")
    os.replace(draft, file)
    return file


def page(records: RunRecords) -> str:
    """The page as HTML."""
    resources = importlib.resources.files("fx_train.report")
    style = (resources / "page.css").read_text(encoding="utf-8")
    script = (resources / "page.js").read_text(encoding="utf-8")
    about = records.about
    sections = [
        _curves(records),
        *(_confusion(name, table) for name, table in about.get("confusion", {}).items()),
        _parameters(about.get("parameters", [])),
        _section("Configuration", "config", _table(_flat(about.get("config", {})))),
        _section("Environment", "environment", _table(_flat(about.get("environment", {})))),
    ]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{_(records.name)}</title>'
        f"<style>{style}</style></head><body><main>{_header(records)}{''.join(sections)}</main>"
        f"<script>{script}</script></body></html>\n"
    )


def _(value: Any) -> str:
    return html.escape(str(value))


def _section(title: str, name: str, body: str) -> str:
    return f'<section id="{name}"><h2>{_(title)}</h2>{body}</section>' if body else ""


def _header(records: RunRecords) -> str:
    about = records.about
    outcome = str(about.get("outcome", "unknown"))
    kind = outcome.split(":")[0] if outcome.split(":")[0] in ("done", "running", "stopped", "unknown") else "failed"
    facts = []
    if "step" in about:
        facts.append(f"{about['step']:,} of {about.get('total_steps', about['step']):,} steps")
    if "started" in about:
        started = datetime.datetime.fromtimestamp(about["started"], datetime.UTC)
        facts.append(started.strftime("%Y-%m-%d %H:%M UTC"))
        if "ended" in about:
            facts.append(_duration(about["ended"] - about["started"]))
    tiles = "".join(
        f'<div class="tile"><span>{_(name)}</span><b>{_number(list(series.values())[-1])}</b>{_best(series)}</div>'
        for name, series in records.metrics.items()
        if series
    )
    shown = f'<p class="outcome">{_(outcome)}</p>' if kind in ("failed", "stopped") else ""
    return (
        f'<header><h1>{_(records.name)} <span class="badge {kind}">{kind}</span></h1>'
        f"<p>{_(' · '.join(facts))}</p>{shown}</header>" + (f'<div class="tiles">{tiles}</div>' if tiles else "")
    )


def _best(series: Mapping[int, float]) -> str:
    finite = [value for value in series.values() if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    return f"<small>{_number(min(finite))} … {_number(max(finite))}</small>"


def _curves(records: RunRecords) -> str:
    charts = []
    for title, members in groups(records.metrics).items():
        curves = {label: records.metrics[name] for label, name in members.items()}
        legend = "".join(f'<span class="key c{i % 6}">{_(label)}</span>' for i, label in enumerate(curves))
        data = {
            "low": min((min(series) for series in curves.values() if series), default=0),
            "high": max((max(series) for series in curves.values() if series), default=1),
            "left": LEFT / WIDTH,
            "right": 1 - RIGHT / WIDTH,
            "curves": {label: [[s, _plain(v)] for s, v in thinned(series)] for label, series in curves.items()},
        }
        # "</" would end the script element.
        blob = json.dumps(data).replace("</", "<\\/")
        charts.append(
            f"<figure><figcaption>{_(title)}<span>{legend}</span></figcaption>{chart(title, curves)}"
            f'<output></output><script type="application/json">{blob}</script></figure>'
        )
    return _section("Curves", "curves", f'<div class="charts">{"".join(charts)}</div>' if charts else "")


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _confusion(name: str, table: Mapping[str, Any]) -> str:
    counts = np.asarray(table["counts"])
    classes: Sequence[Any] = table.get("classes") or range(len(counts))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
        recall, precision = np.diag(counts) / counts.sum(axis=1), np.diag(counts) / counts.sum(axis=0)
    head = "".join(f"<th>{_(name)}</th>" for name in classes)
    rows = []
    for i, label in enumerate(classes):
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}{" strong" if share > 0.5 else ""}" '
            f'style="--share:{0 if math.isnan(share) else share:.3f}">{count or "·"}</td>'
            for j, (count, share) in enumerate(zip(counts[i], shares[i]))
        )
        rows.append(f"<tr><th>{_(label)}</th>{cells}<td class='rate'>{_percent(recall[i])}</td></tr>")
    foot = "".join(f"<td class='rate'>{_percent(value)}</td>" for value in precision)
    body = (
        f'<div class="scroll"><table class="confusion"><caption>rows: label, columns: prediction, after step '
        f"{table.get('step', '?')}</caption><tr><th></th>{head}<th>recall</th></tr>{''.join(rows)}"
        f"<tr><th>precision</th>{foot}<td class='rate total'>{_percent(np.trace(counts) / counts.sum())}</td></tr>"
        "</table></div>"
    )
    return _section(f"Confusion matrix: {name}", f"confusion-{name.replace('/', '-')}", body)


def _parameters(entries: Sequence[Mapping[str, Any]]) -> str:
    if not entries:
        return ""
    sizes = [math.prod(entry["shape"]) for entry in entries]
    total, largest = sum(sizes), max([*sizes, 1])
    rows = "".join(
        f"<tr><td><code>{_(entry['path'])}</code></td><td>{' × '.join(map(str, entry['shape'])) or 'scalar'}</td>"
        f"<td>{_(entry['dtype'])}</td><td class='number'>{size:,}</td>"
        f'<td class="bar"><i style="width:{100 * size / largest:.1f}%"></i></td></tr>'
        for entry, size in zip(entries, sizes)
    )
    body = (
        f"<details{' open' if len(entries) <= 24 else ''}><summary>{total:,} numbers in {len(entries)} arrays</summary>"
        '<div class="scroll"><table><tr><th>name</th><th>shape</th><th>dtype</th><th class="number">numbers</th>'
        f"<th></th></tr>{rows}</table></div></details>"
    )
    return _section("Parameters", "parameters", body)


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    body = "".join(f"<tr><th>{_(name)}</th><td><code>{_(value)}</code></td></tr>" for name, value in rows)
    return f'<table class="facts">{body}</table>' if body else ""


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else value))
    return rows


def _number(value: float) -> str:
    return f"{value:.4g}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"
