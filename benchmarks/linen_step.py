"""A compiled training step of a functional module, against the same program on the flat list of the same arrays."""

import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import QUICK, Ratio, side_by_side, wanted
from benchmarks.nnx_step import WIDTH

CASES = {8: 301} if QUICK else {8: 301, 64: 41}
OPTIMIZER = optax.adam(1e-3)


def network(nn: Any, depth: int) -> Any:
    """Layers of Dense, BatchNorm and Dropout."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(depth):
                x = nn.BatchNorm(use_running_average=False)(nn.Dense(WIDTH)(x))
                x = nn.Dropout(0.1, deterministic=False)(nn.relu(x))
            return x

    return Network()


def training(nn: Any, depth: int) -> tuple[Callable[..., Any], Any]:
    """A step, and what it starts from."""
    model, x, y = network(nn, depth), jnp.ones((4, WIDTH)), jnp.ones((4, WIDTH))
    variables = model.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x)
    params, stats = variables["params"], variables["batch_stats"]

    def step(carry: Any) -> Any:
        params, stats, optimizer, key = carry

        def loss(params: Any) -> Any:
            out, new = model.apply(
                {"params": params, "batch_stats": stats}, x, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            return ((out - y) ** 2).mean(), new["batch_stats"]

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, optimizer = OPTIMIZER.update(grads, optimizer, params)
        return (optax.apply_updates(params, updates), stats, optimizer, key), value

    return step, (params, stats, OPTIMIZER.init(params), jax.random.key(2))


def repeated(step: Callable[..., Any], carry: Any) -> Callable[[], object]:
    """Call a compiled step with what the last one left."""
    compiled, kept = jax.jit(step), [carry]

    def call() -> object:
        kept[0], value = compiled(kept[0])
        return jax.block_until_ready(value)

    return call


def flat(step: Callable[..., Any], carry: Any) -> Callable[[], object]:
    """The same program of a list."""
    leaves, treedef = jax.tree.flatten(carry)

    def on_leaves(leaves: list[Any]) -> Any:
        new, value = step(jax.tree.unflatten(treedef, leaves))
        return jax.tree.leaves(new), value

    return repeated(on_leaves, leaves)


def cases(libraries: tuple[str, ...] = ("fx_linen",)) -> Iterator[Ratio]:
    for depth, rounds in CASES.items():
        case = f"train step of {depth} layers"
        if wanted(case):
            sides: dict[str, Callable[[], object]] = {}
            for library in libraries:
                step, carry = training(importlib.import_module(library), depth)
                sides[library] = repeated(step, carry)
                sides.setdefault("raw", flat(step, carry))
            yield from side_by_side(case, sides, rounds=rounds, clock=time.perf_counter)
