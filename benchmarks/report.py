"""The results as a page, as JSON and as plots."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
from pathlib import Path
from typing import Any

from benchmarks import plots, reasons
from benchmarks.registry import GROUPS

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
VERSIONS = ("jax", "jaxlib", "numpy", "flax", "equinox", "orbax-checkpoint", "optax", "fx-core", "fx-linen", "fx-nnx")
UNITS = {"MB": "{:.1f} MB"}

NEAR, AHEAD = 1.1, 0.98
"""Up to which ratio fx counts as fast as what it is over, and below which part of its ratio a peer counts as faster."""


def machine() -> dict[str, Any]:
    """Say where and with what."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else None
    versions: dict[str, str] = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def moment() -> dict[str, Any]:
    """Say when, and what else ran."""
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {"date": datetime.datetime.now(datetime.UTC).strftime("%d %B %Y"), "load": load}


def figure(value: float, unit: str) -> str:
    """Show a figure with its unit."""
    if unit in UNITS:
        return UNITS[unit].format(value)
    for scale, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * scale >= 1:
            return f"{value * scale:.3g} {name}"
    return f"{value * 1e6:.2g} µs"


def ratio(row: dict[str, Any]) -> float:
    """Give the ratio of a row."""
    return row["ours"] / row["raw"] if row["raw"] else math.nan


def is_ours(library: str) -> bool:
    """Whether a library is fx."""
    return library.startswith("fx")


def _table(rows: list[dict[str, Any]], over: str) -> list[str]:
    lines = [f"| case | library | median | quartiles | over {over} | aim |", "|---|---|---|---|---|---|"]
    for row in rows:
        spread = " to ".join(figure(value, row["unit"]) for value in row["spread"] or ())
        aim = f"≤ {row['aim']}" if row["aim"] else row["note"]
        lines.append(
            f"| {row['case']} | {row['library']} | {figure(row['ours'], row['unit'])} | {spread} | {ratio(row):.2f} "
            f"| {aim} |"
        )
    return lines


def slower(rows: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Give the rows of fx that are not first, each with the peer that is, if it is not what the ratios are over."""
    found: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
    for row in rows:
        if is_ours(row["library"]):
            # Linen is compared with functional modules, NNX with object modules.
            kind = row["library"].rpartition("_")[2].partition(",")[0]
            kinds = {"linen": ("linen", "haiku"), "nnx": ("nnx", "equinox")}.get(kind, ("",))
            others = [o for o in rows if o["case"] == row["case"] and not is_ours(o["library"])]
            best = min((o for o in others if o["library"].endswith(kinds)), key=ratio, default=None)
            best = best if best and ratio(best) < AHEAD * ratio(row) else None
            if best or ratio(row) > NEAR:
                found.append((row, best))
    return found


def behind(name: str, rows: list[dict[str, Any]]) -> list[str]:
    """Give a sentence for each case of a module in which fx is not first."""
    said: list[str] = []
    for row, best in slower(rows):
        over = row["case"].partition(", over ")[2] or GROUPS[name].over
        first = f"{best['library']} {ratio(best):.2f}" if best and ratio(best) < 1 / AHEAD else f"{over} 1"
        if best and ratio(best) >= 1 / AHEAD:
            first = f"{best['library']} {ratio(best):.2f}, {first}"
        why = reasons.reason(name, row["case"], row["library"]) or "The reason is not known yet."
        said.append(f"- {row['case']}, {row['library']}: {ratio(row):.2f}; {first}. {why}")
    return said


def unexplained(found: dict[str, Any]) -> list[str]:
    """Give the cases in which fx is not first and for which `benchmarks.reasons` has no sentence."""
    return [
        f"{name}: {row['case']}, {row['library']}"
        for name, group in found["groups"].items()
        for row, _ in slower(group["rows"] if name != "growth" else [])
        if not reasons.reason(name.partition(":")[0], row["case"], row["library"])
    ]


def page(found: dict[str, Any], level: int = 2) -> str:
    """Give all tables as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"{found['cpu']}, {found['cores']} cores, {found['system']}, Python {found['python']}. {versions}.",
        "",
        "Medians of calls in turns; a ratio of 1 means no cost at all. Where the load average is over the number of "
        "cores, other programs ran too, and a ratio varies by some tenths from run to run.",
        "",
    ]
    for name in [name for name in GROUPS if name in found["groups"]]:
        lines += _part(name, found["groups"][name], "#" * level)
    missing = [f"`{name}`" for name in GROUPS if not found["groups"].get(name, {}).get("rows")]
    lines += [f"Not measured in the last runs: {', '.join(missing)}."] if missing else []
    return "\n".join(lines).rstrip() + "\n"


def _part(name: str, group: dict[str, Any], mark: str) -> list[str]:
    about, rows = GROUPS[name], group["rows"]
    if not rows:
        return []
    rounds = "few rounds (`--quick`)" if group["quick"] else "all rounds"
    lines = [
        f"{mark} {about.title}",
        "",
        f"`python -m benchmarks {name} --peers`, {group['date']}, {rounds}, load average {group['load']}.",
        "",
    ]
    if name == "growth":
        return [*lines, *plots.fitted(rows), ""]
    lines += [*_table(rows, about.over), ""]
    if group["trouble"]:
        lines += [f"This part is not complete: {group['trouble']}.", ""]
    said = behind(name, rows)
    return [*lines, *(["Where fx is not first:", "", *said, ""] if said else [])]


def _same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether results are of one machine and of the same versions, as far as a library is installed both times."""
    both = before["versions"].keys() & now["versions"].keys()
    return all(before[key] == now[key] for key in ("cpu", "cores", "system", "python")) and all(
        before["versions"][name] == now["versions"][name] for name in both
    )


def write(found: dict[str, Any]) -> None:
    """Write the figures, the page of results, the plots and the part of the documentation that comes from them.

    What an earlier run measured with the same machine and versions stays, but for the parts that are measured anew.
    """
    file = HERE / "results.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    kept = before["groups"] if before and _same(before, found) else {}
    measured = {name.partition(":")[0]: group for name, group in found["groups"].items() if group["rows"]}
    versions = {**(before["versions"] if kept else {}), **found["versions"]}
    found = {**found, "versions": versions, "groups": {**kept, **measured}}
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    head = "# Results\n\nWritten by `nox -s bench`; `benchmarks/results.json` has the figures.\n\n"
    (HERE / "RESULTS.md").write_text(head + page(found))
    rows = found["groups"].get("growth", {}).get("rows", [])
    for name, text in plots.drawn(rows).items():
        (PAGE.parent / name).write_text(text)
    head, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n\n{page(found, level=3).replace('(../docs/', '(')}\n{END}{after}")
