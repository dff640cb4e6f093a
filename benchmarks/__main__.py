"""Runs cases, each module in a process of its own, and writes the table, the figures and the plots."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.registry import GROUPS


def main() -> None:
    parser = argparse.ArgumentParser(description="fx and its peers, over hand-written JAX")
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(GROUPS)}; nnx_step:512 chooses cases of a module")
    parser.add_argument("--case", default="", help="only cases with this in their name")
    parser.add_argument("--lib", action="append", default=[], help="only this library, such as fx_nnx; may be repeated")
    parser.add_argument("--peers", action="store_true", help="Flax and others too, where they are installed")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and only what is quick")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results.json, RESULTS.md and the page")
    parser.add_argument("--seconds", type=int, default=1500, help="begin no module after so many seconds")
    options = parser.parse_args()
    started = time.monotonic()
    names = options.modules or [name for name, group in GROUPS.items() if group.quick or not options.quick]
    found: dict[str, Any] = {**report.machine(), "groups": {}}
    for name in names:
        if time.monotonic() - started < options.seconds:
            about = {**report.moment(), "quick": options.quick}
            found["groups"][name] = {**about, **run(name, options)}
        else:
            print(f"{name}: not measured, the time was up", file=sys.stderr)
    show(found)
    if options.write:
        report.write(found)
    troubled = [f"{name}: {group['trouble']}" for name, group in found["groups"].items() if group["trouble"]]
    troubled += [f"no sentence in benchmarks/reasons.py for {case}" for case in report.unexplained(found)]
    sys.exit("\n".join(troubled) if troubled else 0)


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the cases of a module; what it printed before it failed counts."""
    group = GROUPS[name.partition(":")[0]]
    libraries = group.present() if options.peers or options.lib else group.ours()
    libraries = tuple(library for library in libraries if not options.lib or library in options.lib)
    if group.libraries and not libraries:
        return {"rows": [], "trouble": ""}
    environment = {**os.environ, "FX_BENCH_CASE": options.case, "FX_BENCH_QUICK": "1" if options.quick else ""}
    environment.setdefault("JAX_PLATFORMS", "cpu")
    command = [sys.executable, "-m", "benchmarks.group", name, ",".join(libraries)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            out, _ = process.communicate(timeout=group.seconds)
            trouble = f"ended with {process.returncode}" if process.returncode else ""
        except subprocess.TimeoutExpired:
            process.kill()
            out, trouble = process.communicate()[0], f"stopped after {group.seconds} s"
    rows = [json.loads(line.removeprefix("ROW ")) for line in out.splitlines() if line.startswith("ROW ")]
    print(f"{name}: {len(rows)} rows in {time.monotonic() - began:.0f} s {trouble}", file=sys.stderr, flush=True)
    return {"rows": rows, "trouble": trouble}


def show(found: dict[str, Any]) -> None:
    """Print all rows."""
    table = Table("case", "library", "median", "raw", "ratio", "aim")
    for group in found["groups"].values():
        for row in group["rows"]:
            aim = f"≤ {row['aim']}" if row["aim"] else row["note"]
            figures = report.figure(row["ours"], row["unit"]), report.figure(row["raw"], row["unit"])
            table.add_row(row["case"], row["library"], *figures, f"{report.ratio(row):.2f}", aim)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    assert Path("benchmarks").is_dir(), "run this in the root of the repository"
    main()
