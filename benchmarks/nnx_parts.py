"""split, a function under `jax.jit`, merge or update: against the same function of the list of the same arrays."""

import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import QUICK, Ratio, side_by_side, wanted
from benchmarks.nnx_step import WIDTH, network

CASES = {8: 151} if QUICK else {8: 151, 64: 41}


def ways(nnx: Any, depth: int, x: jax.Array) -> dict[str, Callable[[], object]]:
    """A step that changes statistics, with what comes out merged to a new model or written to the old one."""

    @jax.jit
    def step(graphdef: Any, state: Any, x: jax.Array) -> Any:
        model = nnx.merge(graphdef, state)
        return model(x), nnx.state(model)

    kept, model = [network(nnx, depth)], network(nnx, depth)

    def merged() -> object:
        graphdef, state = nnx.split(kept[0])
        out, state = step(graphdef, state, x)
        kept[0] = nnx.merge(graphdef, state)
        return jax.block_until_ready(out)

    def updated() -> object:
        out, state = step(*nnx.split(model), x)
        nnx.update(model, state)
        return jax.block_until_ready(out)

    return {"merge to a new model": merged, "update of the model": updated}


def by_hand(nnx: Any, depth: int, x: jax.Array) -> Callable[[], object]:
    """All values go in and come out."""
    graphdef, state = nnx.split(network(nnx, depth))
    leaves, treedef = jax.tree.flatten(state)

    @jax.jit
    def step(leaves: list[Any], x: jax.Array) -> Any:
        model = nnx.merge(graphdef, jax.tree.unflatten(treedef, leaves))
        return model(x), jax.tree.leaves(nnx.state(model))

    kept = [leaves]

    def call() -> object:
        out, kept[0] = step(kept[0], x)
        return jax.block_until_ready(out)

    return call


def cases(libraries: tuple[str, ...] = ("fx_nnx",)) -> Iterator[Ratio]:
    x = jnp.ones((4, WIDTH))
    for depth, rounds in CASES.items():
        raw = by_hand(importlib.import_module("fx_nnx"), depth, x)
        found = {library: ways(importlib.import_module(library), depth, x) for library in libraries}
        for way in found[libraries[0]]:
            case = f"{way}, {depth} layers"
            if wanted(case):
                sides = {library: found[library][way] for library in libraries}
                aims = {"fx_nnx": 2.0} if way.startswith("update") else {}
                sides["raw"] = raw
                yield from side_by_side(case, sides, rounds=rounds, aims=aims, clock=time.perf_counter)
