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

from benchmarks import plots
from benchmarks.registry import GROUPS

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
VERSIONS = ("jax", "jaxlib", "numpy", "flax", "equinox", "orbax-checkpoint", "optax", "fx-core", "fx-linen", "fx-nnx")
UNITS = {"MB": "{:.1f} MB"}

REASONS = {
    "remat of 12 layers, one function": "By hand all layers are one function, which JAX traces once. `nnx.remat` "
    "traces each layer, as Flax does: a layer may read what changed between two calls. `stack_equal` traces one.",
    "gradient of a scan": "By hand, and in Flax, the body of a loop that was made once keeps its trace from the call "
    "before; fx traces it anew. Norms of fx also have more equations, as they compute moments near a value of the "
    "input.",
    "update of the model": "`update` compares shapes with the old ones and writes each variable.",
    "merge to a new model": "A merged model is a new one, whose structure is found out at its first `split`.",
    "as a tree": "Without graph mode the whole model is walked at each call, to make sure that no object is shared.",
    "trace of init": "Layers derive a key for each parameter from a path and a count, and functional modules record "
    "the forward pass, which yields the shapes.",
    "LSTM": "A cell is put together anew inside the loop, which the short trace of a cell cannot hide.",
    "first step": "Unrolled networks compile the same program as by hand, after the import of the library.",
    "train step": "The step runs the same program; the rest is the order and number of its arguments.",
    "import": "It is the import of JAX and the modules of the package.",
    "trace": "The rest is the call of a module: scopes, names, promotion of dtypes.",
}
"""Why fx is not first, by a part of the name of a case."""


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


def behind(rows: list[dict[str, Any]]) -> list[str]:
    """Give a sentence for each case in which a peer, or hand-written JAX by over a tenth, is faster than fx."""
    said: list[str] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        here = [row for row in rows if row["case"] == case]
        for row in here:
            others = [other for other in here if not is_ours(other["library"])]
            # Faces are compared with the same face of a peer.
            kind = row["library"].rpartition("_")[2].partition(",")[0]
            others = [o for o in others if kind not in ("linen", "nnx") or o["library"].endswith((kind, "equinox"))]
            best = min(others, key=ratio, default=None)
            if not is_ours(row["library"]) or not ratio(row) > 1.1:
                continue
            first = (
                f"{best['library']} {ratio(best):.2f}" if best and ratio(best) < ratio(row) else "hand-written JAX 1"
            )
            reason = next((text for part, text in REASONS.items() if part in case), "")
            said.append(f"- {case}, {row['library']}: {ratio(row):.2f}, {first}. {reason}".rstrip())
    return said


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
    said = [] if name in ("install", "memory") else behind(rows)
    return [*lines, *(["Where fx is not first:", "", *said, ""] if said else [])]


def write(found: dict[str, Any]) -> None:
    """Write the figures, the page of results, the plots and the part of the documentation that comes from them.

    What an earlier run measured with the same machine and versions stays, but for the parts that are measured anew.
    """
    file = HERE / "results.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    same = {key: value for key, value in before.items() if key != "groups"} == {
        key: value for key, value in found.items() if key != "groups"
    }
    measured = {name.partition(":")[0]: group for name, group in found["groups"].items() if group["rows"]}
    found = {**found, "groups": {**(before["groups"] if same else {}), **measured}}
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    head = "# Results\n\nWritten by `nox -s bench`; `benchmarks/results.json` has the figures.\n\n"
    (HERE / "RESULTS.md").write_text(head + page(found))
    rows = found["groups"].get("growth", {}).get("rows", [])
    for name, text in plots.drawn(rows).items():
        (PAGE.parent / name).write_text(text)
    head, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n\n{page(found, level=3).replace('(../docs/', '(')}\n{END}{after}")
