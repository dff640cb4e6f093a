"""Runs the cases and prints one table."""

import argparse
import importlib

from rich.console import Console
from rich.table import Table

MODULES = ["imports", "linen_trace", "train_loop"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of fx to hand-written JAX")
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)}; all by default")
    chosen = parser.parse_args().modules or MODULES
    table = Table("case", "fx (ms)", "raw JAX (ms)", "ratio", "aim", title="fx against raw JAX")
    for name in chosen:
        for row in importlib.import_module(f"benchmarks.{name}").cases():
            aim = f"≤ {row.aim}" if row.aim else ""
            table.add_row(row.case, f"{row.ours * 1e3:.2f}", f"{row.raw * 1e3:.2f}", f"{row.ratio:.2f}", aim)
    Console().print(table)


if __name__ == "__main__":
    main()
