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
    network = fx_export.load(sys.argv[1] + "/net", compiled=sys.argv[3] or None)
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
KINDS = [("loaded", False), ("loaded", True), ("rebuilt", False), ("rebuilt", True)]
COMPARED = {
    "both compiled anew": (False, False),
    "compiled programs of both kept": (True, True),
    "compiled programs of the bundle kept": (True, False),
}


def _seconds(scratch: str, name: str, kind: str, kept: bool) -> float:
    """Seconds of the processor from the start of a process to its end, which comes right after the answer."""
    program = LOADED if kind == "loaded" else REBUILT
    keeping = {"JAX_COMPILATION_CACHE_DIR": scratch + "/cache", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    timed = f"import time\n{textwrap.dedent(program)}\nprint(time.process_time())"
    # Rebuilding keeps programs by JAX's settings, loading by its argument.
    settings = keeping if kept and kind == "rebuilt" else {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    arguments = [scratch, name, scratch + "/compiled" if kept else ""]
    environment = {**os.environ, **settings}
    return float(subprocess.check_output([sys.executable, "-c", timed, *arguments], text=True, env=environment))


def cases() -> Iterator[Ratio]:
    for name in ("mlp", "resnet", "transformer"):
        model, x = getattr(networks, name)(fx_linen)
        variables = jax.jit(model.init)(jax.random.key(0), x)
        with tempfile.TemporaryDirectory() as scratch:
            fx_export.export(Path(scratch) / "net", model, variables, [np.asarray(x)], verify=False)
            np.save(scratch + "/x.npy", np.asarray(x))
            Path(scratch, "variables.pickle").write_bytes(pickle.dumps(jax.device_get(variables)))
            for kind in KINDS:
                _seconds(scratch, name, *kind)
            times: dict[tuple[str, bool], list[float]] = {kind: [] for kind in KINDS}
            for _ in range(ROUNDS):
                for kind, taken in times.items():
                    taken.append(_seconds(scratch, name, *kind))
        middle = {kind: statistics.median(taken) for kind, taken in times.items()}
        for what, (ours, theirs) in COMPARED.items():
            case = f"first answer of a new process, {name}, {what}"
            yield Ratio(case, middle["loaded", ours], middle["rebuilt", theirs], 0.5)
