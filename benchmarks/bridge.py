"""What a module of the other package costs over a native one; the two columns are wrapped and native."""

from collections.abc import Callable, Iterator
from typing import Any

import fx_bridge as bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp

from benchmarks.measure import Ratio, interleaved

WIDTH, BLOCKS, BATCH = 64, 6, 128


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x)))
        return x + nn.Dense(WIDTH)(y)


class NnxBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


class LinenNet(nn.Module):
    block: Callable[[], Any]

    @nn.compact
    def __call__(self, x):
        for _ in range(BLOCKS):
            x = self.block()(x)
        return x


class NnxNet(nnx.Module):
    def __init__(self, block, rngs):
        self.blocks = nnx.List([block(rngs) for _ in range(BLOCKS)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def _nnx_model(block: Callable[[Any], Any], x: jax.Array) -> Any:
    return bridge.lazy_init(NnxNet(block, nnx.Rngs(0)), x)


def _nnx_lowering(model: Any, x: jax.Array) -> Callable[[], object]:
    graphdef, state = nnx.split(model)

    def run(state: Any, x: jax.Array) -> Any:
        inner = nnx.merge(graphdef, state)
        return inner(x), nnx.state(inner)

    return lambda: jax.jit(lambda *args: run(*args)).lower(state, x)


def _nnx_step(model: Any, x: jax.Array) -> Callable[[], object]:
    @nnx.jit
    def step(model: Any, x: jax.Array) -> Any:
        loss, grads = nnx.value_and_grad(lambda model: jnp.mean(model(x) ** 2))(model)
        nnx.update(model, jax.tree.map(lambda p, g: p - 1e-3 * g, nnx.state(model, nnx.Param), grads))
        return loss

    return lambda: jax.block_until_ready(step(model, x))


def _linen_lowering(model: Any, variables: Any, x: jax.Array) -> Callable[[], object]:
    return lambda: jax.jit(lambda *args: model.apply(*args)).lower(variables, x)


def _linen_step(model: Any, variables: Any, x: jax.Array) -> Callable[[], object]:
    @jax.jit
    def step(variables: Any, x: jax.Array) -> Any:
        loss, grads = jax.value_and_grad(lambda variables: jnp.mean(model.apply(variables, x) ** 2))(variables)
        return loss, jax.tree.map(lambda p, g: p - 1e-3 * g, variables, grads)

    return lambda: jax.block_until_ready(step(variables, x))


def cases() -> Iterator[Ratio]:
    x = jnp.ones((BATCH, WIDTH))
    wrapped = _nnx_model(lambda rngs: bridge.ToNNX(LinenBlock(), rngs=rngs), x)
    native = _nnx_model(lambda rngs: NnxBlock(rngs=rngs), x)
    yield interleaved(
        "trace and lower, Linen in NNX", _nnx_lowering(wrapped, x), _nnx_lowering(native, x), rounds=41, aim=1.3
    )
    yield interleaved(
        "jitted training step, Linen in NNX", _nnx_step(wrapped, x), _nnx_step(native, x), rounds=301, aim=1.1
    )
    ours, theirs = LinenNet(lambda: bridge.to_linen(NnxBlock)), LinenNet(LinenBlock)
    ours_args, theirs_args = ((model, model.init(jax.random.key(0), x), x) for model in (ours, theirs))
    yield interleaved(
        "trace and lower, NNX in Linen", _linen_lowering(*ours_args), _linen_lowering(*theirs_args), rounds=41, aim=1.3
    )
    yield interleaved(
        "jitted training step, NNX in Linen", _linen_step(*ours_args), _linen_step(*theirs_args), rounds=301, aim=1.1
    )
