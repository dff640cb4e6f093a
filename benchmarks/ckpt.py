"""Checkpoints: seconds over those of writing and reading the same bytes, flushed to the disk; memory beyond the tree.

    python -m benchmarks ckpt                    # a tree of 100 MB
    FX_CKPT_MB=1024 python -m benchmarks ckpt    # of 1 GB

With ``--peers`` the same tree goes through Flax's msgpack, and through Orbax with its own defaults.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fx_ckpt
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Ratio

MEGABYTES = int(os.environ.get("FX_CKPT_MB", "100"))
ROUNDS = 5 if MEGABYTES <= 256 else 3
AIMS = {"msgpack": (1.25, 1.0), "safetensors": (1.25, 1.0), "orbax": (8.0, 3.0)}
LEAVES = 8


def make_tree() -> dict[str, Any]:
    shape = (MEGABYTES * 2**20 // LEAVES // 4096 // 4, 4096)
    return {f"layer_{i}": jax.random.normal(jax.random.key(i), shape, jnp.float32) for i in range(LEAVES)}


def flushed(path: Path, data: memoryview) -> None:
    """Write bytes to a file, and to the disk."""
    with open(path, "wb", buffering=0) as file:
        while len(data):
            data = data[file.write(data) :]
        os.fsync(file.fileno())


def _in_turns(functions: dict[str, Callable[[], object]], before: Callable[[str], None]) -> dict[str, float]:
    """Median seconds of each, called in turns."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    for round_ in range(ROUNDS + 1):
        # Each comes after each: what one leaves behind in memory and on the disk slows down the next.
        turn = round_ % len(names)
        for name in names[turn:] + names[:turn]:
            function = functions[name]
            before(name)
            start = time.perf_counter()
            jax.block_until_ready(function())
            taken[name].append(time.perf_counter() - start)
    # The first round warms up.
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def _peers(directory: Path, tree: Any) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    import flax.serialization
    import orbax.checkpoint as ocp

    direct = ocp.PyTreeCheckpointer()
    return {
        "Flax msgpack": (
            lambda: flushed(directory / "Flax msgpack", memoryview(flax.serialization.to_bytes(tree))),
            lambda: flax.serialization.from_bytes(tree, (directory / "Flax msgpack").read_bytes()),
        ),
        "Orbax direct": (
            lambda: direct.save(directory / "Orbax direct", tree, force=True),
            lambda: direct.restore(directory / "Orbax direct"),
        ),
    }


def cases(libraries: tuple[str, ...] = ("fx",)) -> Iterator[Ratio]:
    tree = jax.block_until_ready(make_tree())
    data = memoryview(b"".join(np.asarray(leaf).tobytes() for leaf in tree.values()))
    directory = Path(tempfile.mkdtemp())
    try:
        yield from _both_ways(directory, tree, data, peers="flax" in libraries)
        yield from _checksum(directory)
        yield from _blocking(directory, tree)
        for backend in AIMS:
            yield _memory(backend)
    finally:
        shutil.rmtree(directory)


def library_of(name: str) -> str:
    """The library of a way to save, and its format."""
    return {"Flax msgpack": "flax, msgpack", "Orbax direct": "orbax"}.get(name, f"fx, {name}")


def _both_ways(directory: Path, tree: Any, data: memoryview, peers: bool) -> Iterator[Ratio]:
    def clear(name: str) -> None:
        if name in AIMS:
            shutil.rmtree(directory / name, ignore_errors=True)

    def saver(name: str) -> Callable[[], object]:
        return lambda: fx_ckpt.save(directory / name, tree, backend=name)

    def reader(name: str) -> Callable[[], object]:
        if name.endswith(" mapped"):
            return lambda: fx_ckpt.restore(directory / name.removesuffix(" mapped"), tree, mapped=True)
        return lambda: fx_ckpt.restore(directory / name, tree)

    others = _peers(directory, tree) if peers else {}
    writers: dict[str, Callable[[], object]] = {"raw": lambda: flushed(directory / "raw", data)}
    writers |= {name: saver(name) for name in AIMS} | {name: both[0] for name, both in others.items()}
    readers: dict[str, Callable[[], object]] = {"raw": lambda: (directory / "raw").read_bytes()}
    readers |= {name: reader(name) for name in [*AIMS, "safetensors mapped"]} | {
        name: both[1] for name, both in others.items()
    }
    size = f"{MEGABYTES} MB"
    saved = _in_turns(writers, clear)
    restored = _in_turns(readers, lambda _: None)
    for name in list(writers)[1:]:
        aim = AIMS.get(name, (None, None))[0]
        yield Ratio(f"save {size}", saved[name], saved["raw"], aim, library=library_of(name))
    for name in list(readers)[1:]:
        aim = AIMS.get(name.removesuffix(" mapped"), (None, None))[1]
        yield Ratio(f"restore {size}", restored[name], restored["raw"], aim, library=library_of(name))


def _checksum(directory: Path) -> Iterator[Ratio]:
    path = directory / "msgpack"
    taken = _in_turns(
        {"verify": lambda: fx_ckpt.verify(path), "raw": lambda: (directory / "raw").read_bytes()}, lambda _: None
    )
    yield Ratio("checksums of all bytes, over reading them", taken["verify"], taken["raw"])


def _blocking(directory: Path, tree: Any) -> Iterator[Ratio]:
    manager = fx_ckpt.CheckpointManager(directory / "run", keep=1)
    step = iter(range(1000))
    arrays = [np.asarray(leaf) for leaf in tree.values()]
    taken = _in_turns(
        {"save": lambda: manager.save(next(step), tree), "copy": lambda: [array.copy() for array in arrays]},
        lambda _: manager.wait(),
    )
    manager.wait()
    yield Ratio("async save blocks, over a copy in memory", taken["save"], taken["copy"], 1.2)


# In a process of its own: the peak that Linux counts starts again where memory is now.
PROGRAM = """
import shutil, sys, tempfile, jax
from benchmarks import ckpt
import fx_ckpt
def now(field):
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith(field))
def begin():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return now("VmRSS")
directory = tempfile.mkdtemp()
small = {"a": jax.numpy.ones((256, 4096))}
for step in range(2):
    fx_ckpt.restore(fx_ckpt.save(directory + f"/{step}", small, backend=sys.argv[1]), small)
tree = jax.block_until_ready(ckpt.make_tree())
before = begin()
fx_ckpt.save(directory + "/x", tree, backend=sys.argv[1])
saved = now("VmHWM") - before
target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
size, largest = sum(x.nbytes for x in tree.values()), max(x.nbytes for x in tree.values())
del tree
before = begin()
back = fx_ckpt.restore(directory + "/x", target)
print(saved, now("VmHWM") - before - size, largest, size)
shutil.rmtree(directory)
"""


def _memory(backend: str) -> Ratio:
    environment = {**os.environ, "FX_CKPT_MB": str(MEGABYTES), "JAX_PLATFORMS": "cpu"}
    answer = subprocess.check_output([sys.executable, "-c", PROGRAM, backend], text=True, env=environment)
    saved, restored, largest, _ = map(int, answer.split())
    aim = 1.3 if backend != "orbax" else None
    label = f"peak beyond the tree over the largest array, {backend}"
    return Ratio(label, max(saved, restored, 0) / 1e6, largest / 1e6, aim, unit="MB")
