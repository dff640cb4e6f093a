"""A GPT, an MLP and ResNet-50 for the first step: by hand, and for libraries with the names of Linen or NNX."""

import importlib
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import networks, nnx_networks

WIDTH, HEADS, LENGTH = 64, 4, 16


def _norm(p: Any, x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, -1, keepdims=True)
    var = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-6) * p["scale"] + p["bias"]


def _dense(p: Any, x: jax.Array) -> jax.Array:
    return x @ p["kernel"] + p["bias"]


def _block(p: Any, x: jax.Array) -> jax.Array:
    q, k, v = jnp.split(_dense(p["qkv"], _norm(p["n1"], x)).reshape(*x.shape[:2], HEADS, -1), 3, -1)
    mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
    weights = jax.nn.softmax(jnp.where(mask, jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5, -1e9))
    x = x + _dense(p["out"], jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape))
    return x + _dense(p["down"], jax.nn.gelu(_dense(p["up"], _norm(p["n2"], x))))


def _layer(p: Any, x: jax.Array) -> jax.Array:
    return jax.nn.relu(_dense(p, x))


def _made(key: jax.Array, inputs: int, outputs: int) -> Any:
    return {"kernel": jax.random.normal(key, (inputs, outputs)) * inputs**-0.5, "bias": jnp.zeros(outputs)}


def _made_block(key: jax.Array) -> Any:
    keys = iter(jax.random.split(key, 4))
    sizes = {"qkv": (1, 3), "out": (1, 1), "up": (1, 4), "down": (4, 1)}
    norms = {name: {"scale": jnp.ones(WIDTH), "bias": jnp.zeros(WIDTH)} for name in ("n1", "n2")}
    return norms | {name: _made(next(keys), a * WIDTH, b * WIDTH) for name, (a, b) in sizes.items()}


def by_hand(kind: str, depth: int, x: jax.Array) -> Any:
    """Parameters drawn by a compiled function, and the output of the unrolled network."""
    make, layer = (_made_block, _block) if kind == "gpt" else (lambda key: _made(key, WIDTH, WIDTH), _layer)
    params = jax.jit(lambda key: [make(k) for k in jax.random.split(key, depth)])(jax.random.key(0))

    def loss(params: Any, x: jax.Array) -> jax.Array:
        for p in params:
            x = layer(p, x)
        return jnp.mean(x**2)

    return jax.jit(loss)(params, x)


def _made_resnet(key: jax.Array) -> Any:
    """Variables for `networks.resnet_by_hand`."""
    keys = iter(jax.random.split(key, 64))

    def made(convolutions: list[tuple[int, int, int]]) -> Any:
        params, stats = {}, {}
        for index, (size, inputs, outputs) in enumerate(convolutions):
            kernel = jax.random.normal(next(keys), (size, size, inputs, outputs)) * (size * size * inputs) ** -0.5
            params[f"Conv_{index}"] = {"kernel": kernel}
            params[f"BatchNorm_{index}"] = {"scale": jnp.ones(outputs), "bias": jnp.zeros(outputs)}
            stats[f"BatchNorm_{index}"] = {"mean": jnp.zeros(outputs), "var": jnp.ones(outputs)}
        return params, stats

    params, stats = made([(7, 3, 64)])
    inputs, number = 64, 0
    for stage, blocks in enumerate(networks.STAGES):
        features = 64 << stage
        for index in range(blocks):
            sizes = [(1, inputs, features), (3, features, features), (1, features, 4 * features)]
            block = made(sizes + ([] if index else [(1, inputs, 4 * features)]))
            params[f"Block_{number}"], stats[f"Block_{number}"] = block
            inputs, number = 4 * features, number + 1
    params["Dense_0"] = _made(next(keys), inputs, 1000)
    return {"params": params, "batch_stats": stats}


def resnet(library: str) -> Any:
    """The first loss of ResNet-50 as it predicts."""
    x = networks.INPUTS["resnet"]()
    if library == "raw":
        variables = jax.jit(_made_resnet)(jax.random.key(0))
        return jax.jit(lambda v, x: jnp.mean(networks.resnet_by_hand(v, x) ** 2))(variables, x)
    module: Any = importlib.import_module(library)
    if library.endswith("linen"):
        model, _ = networks.resnet(module)
        variables = model.init(jax.random.key(0), x)
        return jax.jit(lambda v, x: jnp.mean(model.apply(v, x) ** 2))(variables, x)
    return module.jit(lambda model, x: jnp.mean(model(x) ** 2))(nnx_networks.resnet(module)[0], x)


def linen(nn: Any, kind: str, depth: int, x: jax.Array, stacked: bool) -> Any:
    """The same of functional modules."""

    class Attention(nn.Module):
        @nn.compact
        def __call__(self, x):
            qkv = nn.Dense(3 * WIDTH)(x).reshape(*x.shape[:2], HEADS, -1)
            q, k, v = jnp.split(qkv, 3, -1)
            mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
            out = nn.dot_product_attention(q, k, v, mask=mask[None, None])
            return nn.Dense(WIDTH)(out.reshape(x.shape))

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x + Attention()(nn.LayerNorm()(x))
            return x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.relu(nn.Dense(WIDTH)(x))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            kept = [(Block if kind == "gpt" else Layer)(name=f"block_{i}") for i in range(depth)]
            if stacked:
                return nn.stack_equal(kept, x)
            for layer in kept:
                x = layer(x)
            return x

    variables = Net().init(jax.random.key(0), x)
    return jax.jit(lambda v, x: jnp.mean(Net().apply(v, x) ** 2))(variables, x)


def nnx(nnx: Any, kind: str, depth: int, x: jax.Array, stacked: bool) -> Any:
    """The same of object modules."""

    class Block(nnx.Module):
        def __init__(self, rngs: Any):
            self.n1, self.n2 = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
            self.qkv = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs)
            self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
            self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
            self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            q, k, v = jnp.split(self.qkv(self.n1(x)).reshape(*x.shape[:2], HEADS, -1), 3, -1)
            mask = jnp.tril(jnp.ones((x.shape[1],) * 2, bool))
            x = x + self.out(nnx.dot_product_attention(q, k, v, mask=mask[None, None]).reshape(x.shape))
            return x + self.down(nnx.gelu(self.up(self.n2(x))))

    class Layer(nnx.Module):
        def __init__(self, rngs: Any):
            self.dense = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return nnx.relu(self.dense(x))

    class Net(nnx.Module):
        def __init__(self, rngs: Any):
            self.layers = nnx.List([(Block if kind == "gpt" else Layer)(rngs) for _ in range(depth)])

        def __call__(self, x: jax.Array) -> jax.Array:
            if stacked:
                return nnx.stack_equal(self.layers, x)
            for layer in self.layers:
                x = layer(x)
            return x

    return nnx.jit(lambda model, x: jnp.mean(model(x) ** 2))(Net(nnx.Rngs(0)), x)


def first_step(side: str, kind: str, depth: int) -> Any:
    """The first loss of a network, by a library or by hand."""
    library, _, how = side.partition(", ")
    if kind == "resnet":
        return resnet(library)
    x = jnp.ones((2, LENGTH, WIDTH))
    if library == "raw":
        return by_hand(kind, depth, x)
    make = linen if library.endswith("linen") else nnx
    return jax.tree.leaves(make(importlib.import_module(library), kind, depth, x, bool(how)))
