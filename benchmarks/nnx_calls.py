"""Ways to call a compiled train step of modules: by position, by name, in containers, donated, with shardings.

Each against `jax.jit` of the same computation on the flat list of the same arrays, called plainly.
"""

from collections.abc import Callable, Iterator
from typing import Any

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import SingleDeviceSharding

from benchmarks.measure import Ratio, interleaved
from benchmarks.nnx_step import WIDTH, network, raw_stepper, train_step

DEPTH, ROUNDS = 8, 301


def ways() -> dict[str, tuple[dict[str, Any], Callable[..., Any]]]:
    """For each way the options of jit, and how the step is called."""
    here = SingleDeviceSharding(jax.devices()[0])
    each = nnx.StateSharding({nnx.Param: here, ...: None})
    return {
        "positions": ({}, lambda step, model, optimizer, x, y: step(model, optimizer, x, y)),
        "names": ({}, lambda step, model, optimizer, x, y: step(model=model, optimizer=optimizer, x=x, y=y)),
        "a batch in a dictionary": ({}, lambda step, model, optimizer, x, y: step(model, optimizer, {"x": x, "y": y})),
        "donated": ({"donate_argnums": (0, 1)}, lambda step, *args: step(*args)),
        "with in_shardings": ({"in_shardings": (each, each, here, here)}, lambda step, *args: step(*args)),
    }


def step_of(model: Any, optimizer: Any, x: Any, y: Any = None) -> Any:
    """The step, whose batch may be a dictionary."""
    x, y = (x["x"], x["y"]) if y is None else (x, y)
    return train_step(nnx)(model, optimizer, x, y)


def cases() -> Iterator[Ratio]:
    """Rows of the table."""
    x, y = jnp.ones((4, WIDTH)), jnp.ones((4, WIDTH))
    raw = raw_stepper(DEPTH, x, y)
    for name, (options, call) in ways().items():
        model = network(nnx, DEPTH)
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
        step = nnx.jit(step_of, **options)

        def ours(step: Any = step, call: Any = call, model: Any = model, optimizer: Any = optimizer) -> object:
            return jax.block_until_ready(call(step, model, optimizer, x, y))

        yield interleaved(f"train step of {DEPTH} layers, {name}", ours, raw, rounds=ROUNDS, aim=1.5)
