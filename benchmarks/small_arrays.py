"""Restoring 10,000 small arrays: checkpoints of each format against the fastest way through Orbax."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fx_ckpt
import numpy as np

from benchmarks.measure import QUICK, Ratio, in_turns, ratios, wanted

COUNT = 1_000 if QUICK else 10_000


def cases(libraries: tuple[str, ...] = ("fx",)) -> Iterator[Ratio]:
    case = f"restore of {COUNT:,} arrays of 16 numbers"
    if "orbax" not in libraries or not wanted(case):
        return
    import orbax.checkpoint as ocp

    tree = {f"layer_{i}": np.full(16, i, np.float32) for i in range(COUNT)}
    directory, direct = Path(tempfile.mkdtemp()), ocp.PyTreeCheckpointer()
    try:
        direct.save(directory / "raw", tree)
        readers: dict[str, Callable[[], object]] = {"raw": lambda: direct.restore(directory / "raw")}
        for backend in ("safetensors", "msgpack", "orbax"):
            fx_ckpt.save(directory / backend, tree, backend=backend)
            readers[f"fx, {backend}"] = lambda backend=backend: fx_ckpt.restore(directory / backend, tree)
        yield from ratios(
            case, in_turns(readers, 3), {f"fx, {name}": 1.5 for name in ("safetensors", "msgpack", "orbax")}
        )
    finally:
        shutil.rmtree(directory)
