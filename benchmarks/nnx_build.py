"""CPU seconds that building an object module takes in a new process, compilation included."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.measure import Ratio

NETWORKS = {"resnet": ("ResNet-50", 1.0), "transformer": ("transformer of 12 blocks", 0.8), "mlp": ("MLP of 100", 0.6)}
ROUNDS = 2

# JAX is ready before the clock starts, and has compiled nothing for the network.
PROGRAM = """
import sys, time, importlib, jax
from benchmarks import nnx_networks
nnx = importlib.import_module(sys.argv[2])
build = getattr(nnx_networks, sys.argv[1])
jax.block_until_ready(jax.random.key(0))
start = time.process_time()
jax.block_until_ready(jax.tree.leaves(nnx.state(build(nnx)[0])))
print(time.process_time() - start)
"""

# What nobody can do without: drawing as many numbers with one kernel per shape, keys by hand.
BY_HAND = """
import sys, time, importlib, jax
from benchmarks import nnx_networks
nnx = importlib.import_module("fx_nnx")
model = nnx.eval_shape(lambda: getattr(nnx_networks, sys.argv[1])(nnx)[0])
shapes = [leaf.shape for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
key = jax.random.key(0)
start = time.process_time()
keys = jax.random.split(key, len(shapes))
jax.block_until_ready([jax.random.normal(k, shape) if len(shape) > 1 else jax.numpy.zeros(shape)
                       for k, shape in zip(keys, shapes)])
print(time.process_time() - start)
"""


def _seconds(program: str, *arguments: str) -> float:
    return float(subprocess.check_output([sys.executable, "-c", program, *arguments], text=True))


def cases(libraries: tuple[str, ...] = ("fx_nnx",)) -> Iterator[Ratio]:
    for network, (name, aim) in NETWORKS.items():
        taken: dict[str, list[float]] = {}
        for number in range(ROUNDS):
            taken.setdefault("", []).append(_seconds(BY_HAND, network))
            # Peers once: they take many times longer.
            for library in [library for library in libraries if not number or library.startswith("fx")]:
                taken.setdefault(library, []).append(_seconds(PROGRAM, network, library))
        median = {case: statistics.median(times) for case, times in taken.items()}
        for library in libraries:
            note = f"≤ {aim} s" if library == "fx_nnx" else ""
            yield Ratio(f"first parameters, {name}", median[library], median[""], note=note, library=library)
