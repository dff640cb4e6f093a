"""Import time over `import jax`: CPU time of new processes, bytecode written."""

from collections.abc import Iterator

from benchmarks.measure import Ratio, wanted
from benchmarks.programs import rows

OWN = ["fx_core", "fx_transforms", "fx_linen", "fx_nnx", "fx_train", "fx_ckpt", "fx_export", "fx_compress", "fx_flax"]
PEERS = {"fx_linen": "flax.linen", "fx_nnx": "flax.nnx"}
AIMS = {"fx_linen": 1.08, "fx_nnx": 1.08}
PROGRAM = """
import importlib, sys, time
start = time.process_time()
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(time.process_time() - start)
"""


def cases(libraries: tuple[str, ...] = ("fx",)) -> Iterator[Ratio]:
    for package in OWN:
        case = f"import {package}"
        if wanted(case):
            programs = {"fx": (PROGRAM, package), "raw": (PROGRAM, "jax,jax.numpy")}
            if "flax" in libraries and package in PEERS:
                programs["flax"] = (PROGRAM, PEERS[package])
            aims = {"fx": AIMS[package]} if package in AIMS else {}
            yield from rows(case, programs, rounds=5, aims=aims)
