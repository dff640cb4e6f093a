"""Import time over `import jax`, in fresh processes."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Ratio

PACKAGES = [
    "fx_core",
    "fx_transforms",
    "fx_linen",
    "fx_nnx",
    "fx_train",
    "fx_ckpt",
    "fx_export",
    "fx_compress",
    "fx_flax",
]


def _seconds(statement: str) -> float:
    program = f"import time; s = time.perf_counter(); {statement}; print(time.perf_counter() - s)"
    return float(subprocess.check_output([sys.executable, "-c", program], text=True))


def cases() -> Iterator[Ratio]:
    for package in PACKAGES:
        ours, raw = [], []
        for _ in range(5):
            raw.append(_seconds("import jax, jax.numpy"))
            ours.append(_seconds(f"import {package}"))
        yield Ratio(f"import {package}", statistics.median(ours), statistics.median(raw))
