"""The networks of `benchmarks.networks` in Equinox: the model is the tree of its parameters, and sees one example."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.networks import BLOCKS, HEADS, HIDDEN, INPUTS, MLP_LAYERS, STAGES, WIDTH

eqx: Any = importlib.import_module("equinox")


def network(name: str) -> tuple[Callable[..., Any], Callable[..., jax.Array], jax.Array]:
    """Returns what draws the parameters from a key, what applies them, and an input; images have channels first."""
    make, x = {"mlp": mlp, "resnet": resnet, "transformer": transformer, "rnn": OverTime}[name], INPUTS[name]()
    if name == "resnet":
        x = jnp.moveaxis(x, -1, 1)
    shapes = eqx.filter_eval_shape(make, jax.random.key(0))
    fixed = eqx.filter(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct), inverse=True)

    def init(key: jax.Array) -> Any:
        return eqx.filter(make(key), eqx.is_array)

    def apply(arrays: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(arrays, fixed))(x)

    return init, apply, x


def mlp(key: jax.Array) -> Any:
    keys = jax.random.split(key, MLP_LAYERS)
    relu = eqx.nn.Lambda(jax.nn.relu)
    return eqx.nn.Sequential([part for one in keys for part in (eqx.nn.Linear(16, 16, key=one), relu)])


def conv(key: jax.Array, inputs: int, features: int, size: int, stride: int = 1) -> Any:
    return eqx.nn.Conv2d(inputs, features, size, stride, padding=size // 2, use_bias=False, key=key)


class Norm(eqx.Module):
    """Batch normalization that predicts; Equinox keeps the averages in a state that is passed beside the model."""

    mean: Any
    var: Any
    scale: Any
    bias: Any

    def __init__(self, features: int):
        self.mean, self.bias = jnp.zeros((features, 1, 1)), jnp.zeros((features, 1, 1))
        self.var, self.scale = jnp.ones((features, 1, 1)), jnp.ones((features, 1, 1))

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        return (x - self.mean) * (jax.lax.rsqrt(self.var + 1e-5) * self.scale) + self.bias


class ResidualBlock(eqx.Module):
    convs: list[Any]
    norms: list[Any]

    def __init__(self, key: jax.Array, inputs: int, features: int, stride: int, project: bool):
        first, second, third, fourth = jax.random.split(key, 4)
        wide = 4 * features
        self.convs = [
            conv(first, inputs, features, 1),
            conv(second, features, features, 3, stride),
            conv(third, features, wide, 1),
        ]
        self.norms = [Norm(features), Norm(features), Norm(wide)]
        if project:
            self.convs.append(conv(fourth, inputs, wide, 1, stride))
            self.norms.append(Norm(wide))

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        y = jax.nn.relu(self.norms[0](self.convs[0](x)))
        y = jax.nn.relu(self.norms[1](self.convs[1](y)))
        y = self.norms[2](self.convs[2](y))
        if len(self.convs) > 3:
            x = self.norms[3](self.convs[3](x))
        return jax.nn.relu(x + y)


def resnet(key: jax.Array) -> Any:
    keys = iter(jax.random.split(key, sum(STAGES) + 2))
    blocks, inputs = [], 64
    for stage, number in enumerate(STAGES):
        for index in range(number):
            blocks.append(ResidualBlock(next(keys), inputs, 64 << stage, 2 if stage and not index else 1, not index))
            inputs = 256 << stage
    head = eqx.nn.Linear(inputs, 1000, key=next(keys))
    relu, mean = eqx.nn.Lambda(jax.nn.relu), eqx.nn.Lambda(lambda x: jnp.mean(x, (1, 2)))
    return eqx.nn.Sequential(
        [conv(next(keys), 3, 64, 7, 2), Norm(64), relu, eqx.nn.MaxPool2d(3, 2, 1), *blocks, mean, head]
    )


class TransformerBlock(eqx.Module):
    norms: list[Any]
    attention: Any
    wide: Any
    narrow: Any

    def __init__(self, key: jax.Array):
        first, second, third = jax.random.split(key, 3)
        self.norms = [eqx.nn.LayerNorm(WIDTH), eqx.nn.LayerNorm(WIDTH)]
        biases = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, **biases, key=first)
        self.wide = eqx.nn.Linear(WIDTH, 4 * WIDTH, key=second)
        self.narrow = eqx.nn.Linear(4 * WIDTH, WIDTH, key=third)

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        y = jax.vmap(self.norms[0])(x)
        x = x + self.attention(y, y, y)
        y = jax.nn.gelu(jax.vmap(self.wide)(jax.vmap(self.norms[1])(x)))
        return x + jax.vmap(self.narrow)(y)


class EachPosition(eqx.Module):
    layer: Any

    def __call__(self, x: jax.Array, *, key: Any = None) -> jax.Array:
        return jax.vmap(self.layer)(x)


def transformer(key: jax.Array) -> Any:
    blocks = [TransformerBlock(one) for one in jax.random.split(key, BLOCKS)]
    return eqx.nn.Sequential([*blocks, EachPosition(eqx.nn.LayerNorm(WIDTH))])


class OverTime(eqx.Module):
    cell: Any

    def __init__(self, key: jax.Array):
        self.cell = eqx.nn.LSTMCell(8, HIDDEN, key=key)

    def __call__(self, x: jax.Array) -> jax.Array:
        def step(carry: Any, x: jax.Array) -> Any:
            hidden, memory = self.cell(x, carry)
            return (hidden, memory), hidden

        return jax.lax.scan(step, (jnp.zeros(HIDDEN), jnp.zeros(HIDDEN)), x)[1]
