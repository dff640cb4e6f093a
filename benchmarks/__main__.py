"""Runs the cases and prints one table."""

import argparse
import functools
import importlib
import importlib.util

from rich.console import Console
from rich.table import Table

MODULES = [
    "bridge",
    "ckpt",
    "compress",
    "export",
    "export_start",
    "imports",
    "linen_init",
    "linen_lifted",
    "linen_trace",
    "nnx_build",
    "nnx_calls",
    "nnx_graph",
    "nnx_step",
    "nnx_trace",
    "train_loop",
]
LINEN, NNX = ("fx_linen", "flax.linen"), ("fx_nnx", "flax.nnx")
LIBRARIES = {
    "ckpt": ("fx", "flax"),
    "linen_init": LINEN,
    "linen_lifted": LINEN,
    "linen_trace": LINEN,
    "nnx_build": NNX,
    "nnx_graph": (*NNX, "equinox"),
    "nnx_step": NNX,
    "nnx_trace": NNX,
}
"""For each module that can measure peers: ours, and the peers."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Ratios of fx to hand-written JAX")
    modules = f"of {', '.join(MODULES)}; all by default; nnx_step:8,64 chooses cases of a module that lets one choose"
    parser.add_argument("modules", nargs="*", help=modules)
    parser.add_argument("--peers", action="store_true", help="measure Flax and others in the same run, where installed")
    arguments = parser.parse_args()
    chosen = arguments.modules or MODULES
    table = Table("case", "fx (ms)", "raw JAX (ms)", "ratio", "aim", title="fx against raw JAX")
    for choice in chosen:
        name, _, only = choice.partition(":")
        cases = importlib.import_module(f"benchmarks.{name}").cases
        if only:
            cases = functools.partial(cases, only=only.split(","))
        known = LIBRARIES.get(name, ())
        peers = [peer for peer in known[1:] if arguments.peers and importlib.util.find_spec(peer.partition(".")[0])]
        libraries = (*known[:1], *peers)
        for row in cases(libraries) if libraries else cases():
            aim = f"≤ {row.aim}" if row.aim else row.note
            table.add_row(row.case, f"{row.ours * 1e3:.2f}", f"{row.raw * 1e3:.2f}", f"{row.ratio:.2f}", aim)
    Console().print(table)


if __name__ == "__main__":
    main()
