"""How long a new process takes from its start to the first answer: a bundle against the model that is built again."""

import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import fx_export
import fx_linen
import jax
import numpy as np

from benchmarks import networks
from benchmarks.measure import Ratio

LOADED = """
    import sys, numpy as np, jax
    import fx_export
    network = fx_export.load(sys.argv[1] + "/net")
    jax.block_until_ready(network(np.load(sys.argv[1] + "/x.npy")))
"""
REBUILT = """
    import sys, pickle, numpy as np, jax
    import fx_linen
    from benchmarks import networks
    model, _ = getattr(networks, sys.argv[2])(fx_linen)
    variables = jax.device_put(pickle.load(open(sys.argv[1] + "/variables.pickle", "rb")))
    jax.block_until_ready(jax.jit(model.apply)(variables, np.load(sys.argv[1] + "/x.npy")))
"""
ROUNDS = 5


def _seconds(program: str, scratch: str, name: str, cached: bool) -> float:
    """From the start of a process to its end, which comes right after the answer."""
    keeping = {"JAX_COMPILATION_CACHE_DIR": scratch + "/cache", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    timed = f"import time; s = time.perf_counter()\n{textwrap.dedent(program)}\nprint(time.perf_counter() - s)"
    environment = {**os.environ, **(keeping if cached else {"JAX_ENABLE_COMPILATION_CACHE": "false"})}
    return float(subprocess.check_output([sys.executable, "-c", timed, scratch, name], text=True, env=environment))


def cases() -> Iterator[Ratio]:
    for name in ("resnet", "transformer"):
        model, x = getattr(networks, name)(fx_linen)
        variables = jax.jit(model.init)(jax.random.key(0), x)
        with tempfile.TemporaryDirectory() as scratch:
            fx_export.export(Path(scratch) / "net", model, variables, [np.asarray(x)], verify=False)
            np.save(scratch + "/x.npy", np.asarray(x))
            Path(scratch, "variables.pickle").write_bytes(pickle.dumps(jax.device_get(variables)))
            for cached in (False, True):
                times: dict[str, list[float]] = {LOADED: [], REBUILT: []}
                for program, taken in times.items():
                    _seconds(program, scratch, name, cached)
                    taken.clear()
                for _ in range(ROUNDS):
                    for program, taken in times.items():
                        taken.append(_seconds(program, scratch, name, cached))
                what = "compiled programs kept" if cached else "compiled anew"
                case = f"first answer of a new process, {name}, {what}"
                yield Ratio(case, statistics.median(times[LOADED]), statistics.median(times[REBUILT]), 0.5)
