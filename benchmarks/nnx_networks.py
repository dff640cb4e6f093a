"""The networks of `benchmarks.networks` as object modules, for any library with the names of NNX.

Parts have the names that they have in Linen, so that the functions written by hand take the parameters of either.
"""

import functools
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.networks import BLOCKS, HEADS, LENGTH, MLP_LAYERS, STAGES, WIDTH

FEATURES, STEPS = 32, 20


def mlp(nnx: ModuleType) -> tuple[Any, jax.Array]:
    """A hundred dense layers, and an input."""

    class MLP(nnx.Module):
        def __init__(self, rngs: Any):
            for index in range(MLP_LAYERS):
                setattr(self, f"Dense_{index}", nnx.Linear(16, 16, rngs=rngs))

        def __call__(self, x: jax.Array) -> jax.Array:
            for index in range(MLP_LAYERS):
                x = nnx.relu(getattr(self, f"Dense_{index}")(x))
            return x

    return MLP(nnx.Rngs(0)), jnp.ones((2, 16))


def resnet(nnx: ModuleType) -> tuple[Any, jax.Array]:
    """ResNet-50 as it predicts, and an image."""
    conv = functools.partial(nnx.Conv, use_bias=False)
    norm = functools.partial(nnx.BatchNorm, use_running_average=True)

    class Block(nnx.Module):
        def __init__(self, inputs: int, features: int, stride: int, project: bool, rngs: Any):
            self.Conv_0 = conv(inputs, features, (1, 1), rngs=rngs)
            self.BatchNorm_0 = norm(features, rngs=rngs)
            self.Conv_1 = conv(features, features, (3, 3), (stride, stride), rngs=rngs)
            self.BatchNorm_1 = norm(features, rngs=rngs)
            self.Conv_2 = conv(features, 4 * features, (1, 1), rngs=rngs)
            self.BatchNorm_2 = norm(4 * features, rngs=rngs)
            self.project = project
            if project:
                self.Conv_3 = conv(inputs, 4 * features, (1, 1), (stride, stride), rngs=rngs)
                self.BatchNorm_3 = norm(4 * features, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            y = nnx.relu(self.BatchNorm_0(self.Conv_0(x)))
            y = nnx.relu(self.BatchNorm_1(self.Conv_1(y)))
            y = self.BatchNorm_2(self.Conv_2(y))
            if self.project:
                x = self.BatchNorm_3(self.Conv_3(x))
            return nnx.relu(x + y)

    class ResNet(nnx.Module):
        def __init__(self, rngs: Any):
            self.Conv_0 = conv(3, 64, (7, 7), (2, 2), rngs=rngs)
            self.BatchNorm_0 = norm(64, rngs=rngs)
            inputs, number = 64, 0
            for stage, blocks in enumerate(STAGES):
                for index in range(blocks):
                    stride = 2 if stage and not index else 1
                    block = Block(inputs, 64 << stage, stride, not index, rngs)
                    setattr(self, f"Block_{number}", block)
                    inputs, number = 256 << stage, number + 1
            self.Dense_0 = nnx.Linear(inputs, 1000, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = nnx.relu(self.BatchNorm_0(self.Conv_0(x)))
            x = nnx.max_pool(x, (3, 3), (2, 2), "SAME")
            for number in range(sum(STAGES)):
                x = getattr(self, f"Block_{number}")(x)
            return self.Dense_0(jnp.mean(x, (1, 2)))

    return ResNet(nnx.Rngs(0)), jnp.ones((1, 224, 224, 3))


def transformer(nnx: ModuleType) -> tuple[Any, jax.Array]:
    """Twelve blocks of attention and feed-forward, and a sequence."""

    class Block(nnx.Module):
        def __init__(self, rngs: Any):
            self.LayerNorm_0 = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.MultiHeadDotProductAttention_0 = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
            self.LayerNorm_1 = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.Dense_0 = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
            self.Dense_1 = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = x + self.MultiHeadDotProductAttention_0(self.LayerNorm_0(x))
            return x + self.Dense_1(nnx.gelu(self.Dense_0(self.LayerNorm_1(x))))

    class Transformer(nnx.Module):
        def __init__(self, rngs: Any):
            for index in range(BLOCKS):
                setattr(self, f"Block_{index}", Block(rngs))
            self.LayerNorm_0 = nnx.LayerNorm(WIDTH, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            for index in range(BLOCKS):
                x = getattr(self, f"Block_{index}")(x)
            return self.LayerNorm_0(x)

    return Transformer(nnx.Rngs(0)), jnp.ones((2, LENGTH, WIDTH))


def lstm(nnx: ModuleType) -> tuple[Any, jax.Array]:
    """A long short-term memory over time, and sequences."""
    rngs = nnx.Rngs(0)
    return nnx.RNN(nnx.LSTMCell(FEATURES, FEATURES, rngs=rngs), rngs=rngs), jnp.ones((2, STEPS, FEATURES))


def lstm_by_hand(params: Any, x: jax.Array) -> jax.Array:
    return lstm_over_time(params["cell"], x, FEATURES)


def lstm_over_time(cell: Any, x: jax.Array, features: int) -> jax.Array:
    def step(carry: Any, x: jax.Array) -> Any:
        c, h = carry
        i, f, g, o = (
            x @ cell[inner]["kernel"] + h @ cell[outer]["kernel"] + cell[outer]["bias"][None]
            for inner, outer in (("ii", "hi"), ("if_", "hf"), ("ig", "hg"), ("io", "ho"))
        )
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    zeros = jnp.zeros((x.shape[0], features))
    _, outputs = lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
    return jnp.swapaxes(outputs, 0, 1)
