"""How work grows with its size; the exponent of the fit says it: 1 is as the size, 0 not at all.

FX_GROWTH_MB=2048 python -m benchmarks growth    # checkpoints up to so many megabytes; 500 without it
"""

import importlib
import importlib.metadata
import os
import shutil
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

from benchmarks.ckpt import flushed
from benchmarks.measure import QUICK, Ratio, side_by_side, wanted
from benchmarks.nnx_graph import model_of, operations, raw_of
from benchmarks.nnx_trace import tracing
from benchmarks.plugins import install, look_up

VARIABLES = (100, 1_000, 10_000) if QUICK else (100, 1_000, 10_000, 100_000)
LAYERS = (8, 32, 128) if QUICK else (8, 32, 128, 512)
LARGEST = int(os.environ.get("FX_GROWTH_MB", "50" if QUICK else "500"))
MEGABYTES = sorted({size for size in (10, 50, 150, 500) if size < LARGEST} | {LARGEST})
PLUGINS = (0, 1, 10, 50, 200)


def _linen(nn: Any, depth: int) -> Callable[[], object]:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(depth):
                x = nn.relu(nn.Dense(8)(x))
            return x

    model, x = Net(), jnp.ones((2, 8))
    return tracing(model.apply, jax.eval_shape(model.init, jax.random.key(0), x), x)


def _nnx(nnx: Any, depth: int) -> Callable[[], object]:
    class Net(nnx.Module):
        def __init__(self, rngs: Any):
            self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs) for _ in range(depth)])

        def __call__(self, x: jax.Array) -> jax.Array:
            for layer in self.layers:
                x = nnx.relu(layer(x))
            return x

    graphdef, state = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))
    return tracing(lambda state, x: nnx.merge(graphdef, state)(x), state, jnp.ones((2, 8)))


def _by_hand(depth: int) -> Callable[[], object]:
    def run(params: Any, x: jax.Array) -> jax.Array:
        for kernel, bias in params:
            x = jax.nn.relu(jax.lax.dot_general(x, kernel, (((1,), (0,)), ((), ()))) + bias.reshape((1, -1)))
        return x

    return tracing(run, [(jnp.ones((8, 8)), jnp.ones(8))] * depth, jnp.ones((2, 8)))


def _traces(libraries: tuple[str, ...]) -> Iterator[Ratio]:
    for depth in LAYERS:
        case = f"trace | layers | {depth}"
        if wanted(case):
            sides = {"raw": _by_hand(depth)}
            for library in libraries:
                if library.endswith(("linen", "nnx")):
                    make = _linen if library.endswith("linen") else _nnx
                    sides[library] = make(importlib.import_module(library), depth)
            yield from side_by_side(case, sides, rounds=5)


def _variables(libraries: tuple[str, ...]) -> Iterator[Ratio]:
    names = [
        name for name in ("split", "update", "clone") if any(wanted(f"{name} | variables | {n}") for n in VARIABLES)
    ]
    for size in VARIABLES if names else ():
        found = {}
        for library in libraries:
            if library.endswith("nnx") and (size < 100_000 or library == "fx_nnx"):
                nnx = importlib.import_module(library)
                found[library] = operations(nnx, model_of(nnx, size))
        for name in names:
            case = f"{name} | variables | {size}"
            if wanted(case) and found:
                sides = {library: ways[name] for library, ways in found.items()}
                yield from side_by_side(case, {**sides, "raw": raw_of(size)}, rounds=7)


def _checkpoints(libraries: tuple[str, ...]) -> Iterator[Ratio]:
    """Arrays of a megabyte in one file, against their bytes in one file; both flushed to the disk."""
    for size in MEGABYTES if "fx_ckpt" in libraries else ():
        cases = {way: f"{way} | megabytes | {size}" for way in ("save", "restore")}
        if not any(map(wanted, cases.values())):
            continue
        tree = {f"layer_{i}": np.random.default_rng(i).normal(size=2**18).astype(np.float32) for i in range(size)}
        data = memoryview(b"".join(leaf.tobytes() for leaf in tree.values()))
        directory = Path(tempfile.mkdtemp())
        ways: dict[str, dict[str, Callable[[], object]]] = {
            "save": {
                "fx_ckpt": lambda tree=tree, at=directory: fx_ckpt.save(at / "fx", tree),
                "raw": lambda data=data, at=directory: flushed(at / "raw", data),
            },
            "restore": {
                "fx_ckpt": lambda tree=tree, at=directory: fx_ckpt.restore(at / "fx", tree),
                "raw": lambda at=directory: (at / "raw").read_bytes(),
            },
        }
        try:
            for way, sides in ways.items():
                if way == "restore":
                    ways["save"]["fx_ckpt"]()

                def clear(at: Path = directory, way: str = way) -> None:
                    if way == "save":
                        shutil.rmtree(at / "fx", ignore_errors=True)

                yield from side_by_side(cases[way], sides, rounds=3, prepare=clear, clock=time.perf_counter)
        finally:
            shutil.rmtree(directory)


def _plugins(libraries: tuple[str, ...]) -> Iterator[Ratio]:
    """The first look-up of a name, over reading the entry points alone."""
    for count in PLUGINS if "fx_core" in libraries else ():
        case = f"first look-up | plugins | {count}"
        if wanted(case):
            with tempfile.TemporaryDirectory() as directory:
                install(Path(directory), count)
                sys.path.insert(0, directory)
                name = f"acme_{count - 1}.moments" if count else "params"
                sides: dict[str, Callable[[], object]] = {
                    "fx_core": lambda name=name: look_up(name),
                    "raw": lambda: list(importlib.metadata.entry_points(group="fx")),
                }
                yield from side_by_side(case, sides, rounds=5)
                sys.path.remove(directory)


def cases(libraries: tuple[str, ...] = ("fx_nnx", "fx_linen", "fx_ckpt", "fx_core")) -> Iterator[Ratio]:
    for part in (_plugins, _checkpoints, _traces, _variables):
        yield from part(libraries)
