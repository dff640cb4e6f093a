"""A jitted train step of modules, against `jax.jit` of the same computation on the flat list of the same arrays, which
is the least that JAX can be given, and on nested dictionaries, as programs in raw JAX hold them.

A network of 512 layers takes XLA three CPU minutes to compile, for each side; it is only measured when it is asked for,
by ``python -m benchmarks nnx_step:512``.
"""

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fx_nnx
import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import QUICK, Ratio, side_by_side, wanted

WIDTH = 8
CASES = {8: (1.1, 60), 64: (1.02, 30), 512: (1.02, 15)}
"""Aim and rounds for each number of layers."""
DEFAULT = ("8",) if QUICK else ("8", "64")


def network(nnx: Any, depth: int) -> Any:
    """Layers of Linear, BatchNorm and Dropout."""

    class Layer(nnx.Module):
        def __init__(self, rngs: Any):
            self.linear = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
            self.norm = nnx.BatchNorm(WIDTH, rngs=rngs)
            self.drop = nnx.Dropout(0.1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.drop(nnx.relu(self.norm(self.linear(x))))

    class Network(nnx.Module):
        def __init__(self, rngs: Any):
            self.layers = nnx.List([Layer(rngs) for _ in range(depth)])

        def __call__(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    return Network(nnx.Rngs(0))


def train_step(nnx: Any) -> Callable[..., Any]:
    """A step of training, not compiled."""

    def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        def loss(model: Any) -> Any:
            return ((model(x) - y) ** 2).mean()

        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    return step


def model_and_optimizer(nnx: Any, depth: int) -> tuple[Any, Any]:
    """What is trained."""
    model = network(nnx, depth)
    return model, nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)


def stepper(nnx: Any, depth: int, x: Any, y: Any) -> Callable[[], object]:
    """One call of the compiled step of a library."""
    model, optimizer = model_and_optimizer(nnx, depth)
    step = nnx.jit(train_step(nnx))
    return lambda: jax.block_until_ready(step(model, optimizer, x, y))


def raw_stepper(depth: int, x: Any, y: Any) -> Callable[[], object]:
    """The same computation on a list of arrays: what it changes comes back as a list."""
    graphdef, state = fx_nnx.split(model_and_optimizer(fx_nnx, depth))
    values, treedef = jax.tree.flatten(state)
    changed: list[int] = []

    def step(values: list[Any], x: Any, y: Any) -> Any:
        model, optimizer = fx_nnx.merge(graphdef, jax.tree.unflatten(treedef, values), copy=True)
        loss = train_step(fx_nnx)(model, optimizer, x, y)
        new = jax.tree.leaves(fx_nnx.state((model, optimizer)))
        changed[:] = [i for i, (a, b) in enumerate(zip(values, new)) if a is not b]
        return loss, [new[i] for i in changed]

    compiled = jax.jit(step)

    def call() -> object:
        loss, new = compiled(values, x, y)
        for i, value in zip(changed, new):
            values[i] = value
        return jax.block_until_ready(loss)

    return call


def nested_stepper(depth: int, x: Any, y: Any) -> Callable[[], object]:
    """The same computation on nested dictionaries, as a program in raw JAX holds its arrays: all come back."""
    graphdef, state = fx_nnx.split(model_and_optimizer(fx_nnx, depth))
    held = fx_nnx.to_pure_dict(state)

    def step(arrays: Any, x: Any, y: Any) -> Any:
        inside = jax.tree.map(lambda value: value, state)
        fx_nnx.replace_by_pure_dict(inside, arrays)
        model, optimizer = fx_nnx.merge(graphdef, inside)
        loss = train_step(fx_nnx)(model, optimizer, x, y)
        return loss, fx_nnx.to_pure_dict(fx_nnx.state((model, optimizer)))

    compiled = jax.jit(step)

    def call() -> object:
        nonlocal held
        loss, held = compiled(held, x, y)
        return jax.block_until_ready(loss)

    return call


def cases(libraries: tuple[str, ...] = ("fx_nnx",), only: Sequence[str] = DEFAULT) -> Iterator[Ratio]:
    """Rows of the table, for numbers of layers; peers up to 64."""
    x, y = jnp.ones((4, WIDTH)), jnp.ones((4, WIDTH))
    for depth in map(int, only):
        aim, rounds = CASES[depth]
        case = f"train step of {depth} layers"
        if wanted(case):
            chosen = [library for library in libraries if depth <= 64 or library == "fx_nnx"]
            sides = {library: stepper(importlib.import_module(library), depth, x, y) for library in chosen}
            flat = {**sides, "raw": raw_stepper(depth, x, y)}
            yield from side_by_side(case, flat, rounds=rounds, clock=time.perf_counter)
            if "fx_nnx" in sides:
                # In turns of their own: who comes after many other programs finds nothing of it in the caches.
                case, pair = f"{case}, over nested dictionaries", {"fx_nnx": sides["fx_nnx"]}
                pair["raw"] = nested_stepper(depth, x, y)
                yield from side_by_side(case, pair, rounds=rounds, aims={"fx_nnx": aim}, clock=time.perf_counter)
