"""The networks that are measured: for any library with the names of Linen, and the same functions written by hand."""

import functools
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

MLP_LAYERS = 100
STAGES = (3, 4, 6, 3)
HEADS, WIDTH, BLOCKS, LENGTH = 8, 512, 12, 64
HIDDEN, STEPS = 32, 16
INPUTS = {
    "mlp": lambda: jnp.ones((2, 16)),
    "resnet": lambda: jnp.ones((1, 224, 224, 3)),
    "transformer": lambda: jnp.ones((2, LENGTH, WIDTH)),
    "rnn": lambda: jnp.linspace(-1, 1, 2 * STEPS * 8).reshape(2, STEPS, 8),
}


def mlp(nn: ModuleType) -> tuple[Any, jax.Array]:
    """A hundred dense layers, and an input."""

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(MLP_LAYERS):
                x = nn.relu(nn.Dense(16)(x))
            return x

    return MLP(), INPUTS["mlp"]()


def mlp_by_hand(params, x):
    for index in range(MLP_LAYERS):
        layer = params[f"Dense_{index}"]
        y = jax.lax.dot_general(x, layer["kernel"], (((1,), (0,)), ((), ())))
        x = jax.nn.relu(y + jnp.reshape(layer["bias"], (1, -1)))
    return x


def resnet(nn: ModuleType) -> tuple[Any, jax.Array]:
    """ResNet-50 as it predicts, and an image."""
    conv = functools.partial(nn.Conv, use_bias=False)
    norm = functools.partial(nn.BatchNorm, use_running_average=True)

    class Block(nn.Module):
        features: int
        stride: int
        project: bool

        @nn.compact
        def __call__(self, x):
            y = nn.relu(norm()(conv(self.features, (1, 1))(x)))
            y = nn.relu(norm()(conv(self.features, (3, 3), (self.stride, self.stride))(y)))
            y = norm()(conv(4 * self.features, (1, 1))(y))
            if self.project:
                x = norm()(conv(4 * self.features, (1, 1), (self.stride, self.stride))(x))
            return nn.relu(x + y)

    class ResNet(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(norm()(conv(64, (7, 7), (2, 2))(x)))
            x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
            for stage, blocks in enumerate(STAGES):
                for index in range(blocks):
                    x = Block(64 << stage, 2 if stage and not index else 1, not index)(x)
            return nn.Dense(1000)(jnp.mean(x, (1, 2)))

    return ResNet(), INPUTS["resnet"]()


def _conv(params, x, index, stride=1):
    kernel = params[f"Conv_{index}"]["kernel"]
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _batch_norm(variables, x, index):
    params, stats = (variables[col][f"BatchNorm_{index}"] for col in ("params", "batch_stats"))
    mean, var, scale, bias = (
        value.reshape((1, 1, 1, -1)) for value in (stats["mean"], stats["var"], params["scale"], params["bias"])
    )
    return (x - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias


def _block(variables, x, stride, project):
    params = variables["params"]
    y = jax.nn.relu(_batch_norm(variables, _conv(params, x, 0), 0))
    y = jax.nn.relu(_batch_norm(variables, _conv(params, y, 1, stride), 1))
    y = _batch_norm(variables, _conv(params, y, 2), 2)
    if project:
        x = _batch_norm(variables, _conv(params, x, 3, stride), 3)
    return jax.nn.relu(x + y)


def resnet_by_hand(variables, x):
    params = variables["params"]
    x = jax.nn.relu(_batch_norm(variables, _conv(params, x, 0, 2), 0))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    number = 0
    for stage, blocks in enumerate(STAGES):
        for index in range(blocks):
            inner = {col: variables[col][f"Block_{number}"] for col in variables}
            x = _block(inner, x, 2 if stage and not index else 1, not index)
            number += 1
    head = params["Dense_0"]
    return jnp.mean(x, (1, 2)) @ head["kernel"] + head["bias"].reshape((1, -1))


def transformer(nn: ModuleType) -> tuple[Any, jax.Array]:
    """Twelve blocks of attention and feed-forward, and a sequence."""

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x + nn.MultiHeadDotProductAttention(num_heads=HEADS)(nn.LayerNorm()(x))
            y = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x)))
            return x + nn.Dense(WIDTH)(y)

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(BLOCKS):
                x = Block()(x)
            return nn.LayerNorm()(x)

    return Transformer(), INPUTS["transformer"]()


def _layer_norm(params, x):
    mean = jnp.mean(x, -1, keepdims=True)
    var = jnp.maximum(0.0, jnp.mean(x * x, -1, keepdims=True) - mean * mean)
    scale, bias = (params[name].reshape((1, 1, -1)) for name in ("scale", "bias"))
    return (x - mean) * (jax.lax.rsqrt(var + 1e-6) * scale) + bias


def _dense(params, x):
    return x @ params["kernel"] + params["bias"].reshape((1, 1, -1))


def _attention(params, x):
    def heads(name):
        return jnp.einsum("blm,mhd->blhd", x, params[name]["kernel"]) + params[name]["bias"][None, None]

    query, key, value = heads("query"), heads("key"), heads("value")
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query / (WIDTH // HEADS) ** 0.5, key))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return jnp.einsum("blhd,hdm->blm", mixed, params["out"]["kernel"]) + params["out"]["bias"][None, None]


def transformer_by_hand(params, x):
    for index in range(BLOCKS):
        block = params[f"Block_{index}"]
        x = x + _attention(block["MultiHeadDotProductAttention_0"], _layer_norm(block["LayerNorm_0"], x))
        y = jax.nn.gelu(_dense(block["Dense_0"], _layer_norm(block["LayerNorm_1"], x)))
        x = x + _dense(block["Dense_1"], y)
    return _layer_norm(params["LayerNorm_0"], x)


def rnn(nn: ModuleType) -> tuple[Any, jax.Array]:
    """An LSTM over sequences."""
    return nn.RNN(nn.LSTMCell(HIDDEN)), INPUTS["rnn"]()


def rnn_by_hand(params, x):
    cell = params["cell"]

    def gate(name, x, h):
        hidden = cell["h" + name]
        return x @ cell["i" + name]["kernel"] + (h @ hidden["kernel"] + hidden["bias"].reshape((1, -1)))

    def step(carry, x):
        c, h = carry
        i, f, o = (jax.nn.sigmoid(gate(name, x, h)) for name in "ifo")
        c = f * c + i * jnp.tanh(gate("g", x, h))
        h = o * jnp.tanh(c)
        return (c, h), h

    start = (jnp.zeros((x.shape[0], HIDDEN)),) * 2
    return jnp.swapaxes(jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))[1], 0, 1)
