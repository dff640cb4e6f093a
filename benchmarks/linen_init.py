"""CPU seconds that making the first parameters takes in a new process, compilation included."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Ratio

NETWORKS = {"resnet": ("ResNet-50", 1.0), "transformer": ("transformer of 12 blocks", 0.8), "mlp": ("MLP of 100", 0.6)}
ROUNDS = 2

# The key and the input are there before the clock starts; JAX is then ready, and has compiled nothing for the network.
PROGRAM = """
import sys, time, importlib, jax
from benchmarks import networks
model, x = getattr(networks, sys.argv[1])(importlib.import_module(sys.argv[2]))
key = jax.random.key(0)
run = jax.jit(model.init) if sys.argv[3] == "jit" else model.init
start = time.process_time()
jax.block_until_ready(run(key, x))
print(time.process_time() - start)
"""


def _seconds(network: str, library: str, how: str) -> float:
    return float(subprocess.check_output([sys.executable, "-c", PROGRAM, network, library, how], text=True))


def cases(libraries: tuple[str, ...] = ("fx_linen",)) -> Iterator[Ratio]:
    for network, (name, aim) in NETWORKS.items():
        taken: dict[tuple[str, str], list[float]] = {}
        taken["fx_linen", "jit"] = [_seconds(network, "fx_linen", "jit")]  # once: it takes ten times longer
        for number in range(ROUNDS):
            # Peers once: Flax compiles a program for each parameter, which takes many times longer.
            for case in [(library, "call") for library in libraries if not number or library.startswith("fx")]:
                taken.setdefault(case, []).append(_seconds(network, *case))
        median = {case: statistics.median(times) for case, times in taken.items()}
        for library in libraries:
            note = f"≤ {aim} s" if library == "fx_linen" else ""
            times = median[library, "call"], median["fx_linen", "jit"]
            yield Ratio(f"first parameters, {name}", *times, note=note, library=library)
