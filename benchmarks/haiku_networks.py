"""The networks of `benchmarks.networks` in Haiku: functional modules with names of their own."""

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.networks import BLOCKS, HEADS, HIDDEN, INPUTS, MLP_LAYERS, STAGES, WIDTH

hk: Any = importlib.import_module("haiku")


def network(name: str) -> tuple[Callable[..., Any], Callable[..., jax.Array], jax.Array]:
    """Returns what draws the parameters from a key, what applies them, and an input; variables are a pair."""
    chosen = {"mlp": mlp, "resnet": resnet, "transformer": transformer, "rnn": rnn}[name]
    transformed, x = hk.transform_with_state(chosen), INPUTS[name]()
    return lambda key: transformed.init(key, x), lambda variables, x: transformed.apply(*variables, None, x)[0], x


def norm(x: jax.Array) -> jax.Array:
    return hk.BatchNorm(True, True, 0.99)(x, is_training=hk.running_init())


def conv(x: jax.Array, features: int, size: int, stride: int = 1) -> jax.Array:
    return hk.Conv2D(features, size, stride, with_bias=False)(x)


def mlp(x: jax.Array) -> jax.Array:
    for _ in range(MLP_LAYERS):
        x = jax.nn.relu(hk.Linear(16)(x))
    return x


def block(x: jax.Array, features: int, stride: int, project: bool) -> jax.Array:
    y = jax.nn.relu(norm(conv(x, features, 1)))
    y = jax.nn.relu(norm(conv(y, features, 3, stride)))
    y = norm(conv(y, 4 * features, 1))
    if project:
        x = norm(conv(x, 4 * features, 1, stride))
    return jax.nn.relu(x + y)


def resnet(x: jax.Array) -> jax.Array:
    x = hk.max_pool(jax.nn.relu(norm(conv(x, 64, 7, 2))), (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for stage, blocks in enumerate(STAGES):
        for index in range(blocks):
            x = block(x, 64 << stage, 2 if stage and not index else 1, not index)
    return hk.Linear(1000)(jnp.mean(x, (1, 2)))


def layer_norm(x: jax.Array) -> jax.Array:
    return hk.LayerNorm(-1, True, True)(x)


def transformer(x: jax.Array) -> jax.Array:
    init = hk.initializers.VarianceScaling()
    for _ in range(BLOCKS):
        y = layer_norm(x)
        x = x + hk.MultiHeadAttention(HEADS, WIDTH // HEADS, w_init=init)(y, y, y)
        x = x + hk.Linear(WIDTH)(jax.nn.gelu(hk.Linear(4 * WIDTH)(layer_norm(x))))
    return layer_norm(x)


def rnn(x: jax.Array) -> jax.Array:
    cell = hk.LSTM(HIDDEN)
    return hk.dynamic_unroll(cell, x, cell.initial_state(len(x)), time_major=False)[0]
