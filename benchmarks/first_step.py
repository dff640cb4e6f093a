"""Seconds of CPU from the start of a new process to the first loss: import, init, trace, lower, compile, run.

Layers are small, so that the size of the program counts and not that of the arrays. What is written by hand is
unrolled. The first answer, not the first gradient: XLA takes ten gigabytes to compile that of 48 unrolled blocks. Large
networks run once, as a process of theirs takes up to half a minute.
"""

from collections.abc import Iterator

from benchmarks.measure import QUICK, Ratio, wanted
from benchmarks.programs import rows

NETWORKS = {
    "MLP of 24 layers": ("mlp", 24),
    "GPT of 12 blocks": ("gpt", 12),
    "ResNet-50": ("resnet", 50),
    "GPT of 48 blocks": ("gpt", 48),
}
PROGRAM = """
import sys, time, importlib
import jax
from benchmarks import first_networks
side, kind, depth = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.block_until_ready(first_networks.first_step(side, kind, depth))
print(time.process_time())
"""


def cases(libraries: tuple[str, ...] = ("fx_linen", "fx_nnx")) -> Iterator[Ratio]:
    for title, (kind, depth) in NETWORKS.items():
        case = f"first step, {title}"
        if wanted(case) and not (QUICK and depth > 24):
            # At 48 blocks, peers would take half a minute each to compile the unrolled program that raw JAX does.
            large = kind == "gpt" and depth == 48
            sides = [*(name for name in libraries if not large or name.startswith("fx_")), "raw"]
            if kind == "gpt":
                sides += [f"{library}, stack_equal" for library in libraries if library.startswith("fx_")]
            programs = {side: (PROGRAM, side, kind, str(depth)) for side in sides}
            aims = {side: 0.5 for side in sides if large and side.endswith("stack_equal")}
            yield from rows(case, programs, rounds=2 if kind == "mlp" else 1, aims=aims)
