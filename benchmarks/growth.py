"""How work grows with its size; the exponent of the fit says it: 1 is as the size, 0 not at all."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import QUICK, Ratio, side_by_side, wanted
from benchmarks.nnx_graph import model_of, operations, raw_of
from benchmarks.nnx_trace import tracing

VARIABLES = (100, 1_000, 10_000) if QUICK else (100, 1_000, 10_000, 100_000)
LAYERS = (8, 32, 128) if QUICK else (8, 32, 128, 512)


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


def cases(libraries: tuple[str, ...] = ("fx_nnx", "fx_linen")) -> Iterator[Ratio]:
    for depth in LAYERS:
        case = f"trace | layers | {depth}"
        if wanted(case):
            sides = {"raw": _by_hand(depth)}
            for library in libraries:
                make = _linen if library.endswith("linen") else _nnx
                sides[library] = make(importlib.import_module(library), depth)
            yield from side_by_side(case, sides, rounds=5)
    for size in VARIABLES:
        found = {}
        for library in libraries:
            if library.endswith("nnx") and (size < 100_000 or library == "fx_nnx"):
                nnx = importlib.import_module(library)
                found[library] = operations(nnx, model_of(nnx, size))
        for name in ("split", "update", "clone"):
            case = f"{name} | variables | {size}"
            if wanted(case) and found:
                sides = {library: ways[name] for library, ways in found.items()}
                yield from side_by_side(case, {**sides, "raw": raw_of(size)}, rounds=7)
