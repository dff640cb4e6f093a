"""The GPT and the ResNet of `bench.py`: by hand, in Linen and in NNX, of fx or of Flax."""

import dataclasses
import functools

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Size:
    """Sizes of everything."""

    blocks: int = 12
    width: int = 768
    heads: int = 12
    vocabulary: int = 50304
    length: int = 1024
    batch: int = 8
    image: int = 224
    images: int = 64
    stages: tuple = (3, 4, 6, 3)
    steps: int = 10


TINY = Size(2, 32, 2, 64, 16, 2, 32, 2, (1, 1), 2)


# --- GPT -------------------------------------------------------------------------------------------------------------


def norm_by_hand(p, x):
    y = x.astype(jnp.float32)
    y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + 1e-6)
    return (y * p["scale"] + p["bias"]).astype(x.dtype)


def dense_by_hand(p, x):
    return x @ p["kernel"].astype(x.dtype) + p["bias"].astype(x.dtype)


def gpt_by_hand(size):
    """Parameters, and the logits of tokens."""

    def dense(key, inputs, outputs):
        return {"kernel": 0.02 * jax.random.normal(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}

    def block(key):
        keys, w = jax.random.split(key, 4), size.width
        norms = {n: {"scale": jnp.ones(w), "bias": jnp.zeros(w)} for n in ("n1", "n2")}
        sizes = {"qkv": (w, 3 * w), "out": (w, w), "up": (w, 4 * w), "down": (4 * w, w)}
        return norms | {name: dense(k, *shape) for k, (name, shape) in zip(keys, sizes.items())}

    def make(key):
        first, second, third = jax.random.split(key, 3)
        return {
            "tokens": 0.02 * jax.random.normal(first, (size.vocabulary, size.width)),
            "places": 0.02 * jax.random.normal(second, (size.length, size.width)),
            "blocks": [block(k) for k in jax.random.split(third, size.blocks)],
            "norm": {"scale": jnp.ones(size.width), "bias": jnp.zeros(size.width)},
        }

    def run(params, tokens):
        table = params["tokens"].astype(jnp.bfloat16)
        x = table[tokens] + params["places"].astype(jnp.bfloat16)[: tokens.shape[1]]
        for p in params["blocks"]:
            qkv = dense_by_hand(p["qkv"], norm_by_hand(p["n1"], x)).reshape(*x.shape[:2], size.heads, -1)
            mixed = jax.nn.dot_product_attention(*jnp.split(qkv, 3, -1), is_causal=True)
            x = x + dense_by_hand(p["out"], mixed.reshape(x.shape))
            x = x + dense_by_hand(p["down"], jax.nn.gelu(dense_by_hand(p["up"], norm_by_hand(p["n2"], x))))
        return norm_by_hand(params["norm"], x) @ table.T

    return jax.jit(make)(jax.random.key(0)), run


def gpt_linen(nn, size):
    """The same of functional modules."""
    dense = functools.partial(nn.Dense, dtype=jnp.bfloat16)
    norm = functools.partial(nn.LayerNorm, dtype=jnp.bfloat16)

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            qkv = dense(3 * size.width)(norm()(x)).reshape(*x.shape[:2], size.heads, -1)
            mixed = jax.nn.dot_product_attention(*jnp.split(qkv, 3, -1), is_causal=True)
            x = x + dense(size.width)(mixed.reshape(x.shape))
            return x + dense(size.width)(nn.gelu(dense(4 * size.width)(norm()(x))))

    class GPT(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            table = nn.Embed(size.vocabulary, size.width, dtype=jnp.bfloat16)
            places = nn.Embed(size.length, size.width, dtype=jnp.bfloat16)
            x = table(tokens) + places(jnp.arange(tokens.shape[1]))[None]
            for _ in range(size.blocks):
                x = Block()(x)
            return table.attend(norm()(x))

    model = GPT()
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, size.length), jnp.int32)), model.apply


def gpt_nnx(nnx, size):
    """The same of object modules."""
    dense = functools.partial(nnx.Linear, dtype=jnp.bfloat16)
    norm = functools.partial(nnx.LayerNorm, dtype=jnp.bfloat16)
    w = size.width

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.n1, self.n2 = norm(w, rngs=rngs), norm(w, rngs=rngs)
            self.qkv, self.out = dense(w, 3 * w, rngs=rngs), dense(w, w, rngs=rngs)
            self.up, self.down = dense(w, 4 * w, rngs=rngs), dense(4 * w, w, rngs=rngs)

        def __call__(self, x):
            qkv = self.qkv(self.n1(x)).reshape(*x.shape[:2], size.heads, -1)
            mixed = jax.nn.dot_product_attention(*jnp.split(qkv, 3, -1), is_causal=True)
            x = x + self.out(mixed.reshape(x.shape))
            return x + self.down(nnx.gelu(self.up(self.n2(x))))

    class GPT(nnx.Module):
        def __init__(self, rngs):
            self.table = nnx.Embed(size.vocabulary, w, dtype=jnp.bfloat16, rngs=rngs)
            self.places = nnx.Embed(size.length, w, dtype=jnp.bfloat16, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(size.blocks)])
            self.norm = norm(w, rngs=rngs)

        def __call__(self, tokens):
            x = self.table(tokens) + self.places(jnp.arange(tokens.shape[1]))[None]
            for block in self.blocks:
                x = block(x)
            return self.table.attend(self.norm(x))

    graphdef, state = nnx.split(GPT(nnx.Rngs(0)))
    return state, lambda state, tokens: nnx.merge(graphdef, state)(tokens)


# --- ResNet ----------------------------------------------------------------------------------------------------------


def resnet_linen(nn, size):
    """ResNet-50 with group norms, which keep no statistics, so that the step is the same for all."""
    conv = functools.partial(nn.Conv, use_bias=False, dtype=jnp.bfloat16)
    norm = functools.partial(nn.GroupNorm, num_groups=None, group_size=16, dtype=jnp.bfloat16)

    class Block(nn.Module):
        features: int
        stride: int
        project: bool

        @nn.compact
        def __call__(self, x):
            y = nn.relu(norm()(conv(self.features, (1, 1))(x)))
            y = nn.relu(norm()(conv(self.features, (3, 3), (self.stride,) * 2)(y)))
            y = norm()(conv(4 * self.features, (1, 1))(y))
            return nn.relu((norm()(conv(4 * self.features, (1, 1), (self.stride,) * 2)(x)) if self.project else x) + y)

    class ResNet(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.max_pool(nn.relu(norm()(conv(64, (7, 7), (2, 2))(x))), (3, 3), (2, 2), "SAME")
            for stage, blocks in enumerate(size.stages):
                for index in range(blocks):
                    x = Block(64 << stage, 2 if stage and not index else 1, not index)(x)
            return nn.Dense(1000, dtype=jnp.bfloat16)(x.mean((1, 2)))

    model = ResNet()
    return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, size.image, size.image, 3))), model.apply


def resnet_nnx(nnx, size):
    """The same of object modules."""
    conv = functools.partial(nnx.Conv, use_bias=False, dtype=jnp.bfloat16)
    norm = functools.partial(nnx.GroupNorm, num_groups=None, group_size=16, dtype=jnp.bfloat16)

    class Block(nnx.Module):
        def __init__(self, inputs, features, stride, project, rngs):
            self.c1, self.b1 = conv(inputs, features, (1, 1), rngs=rngs), norm(features, rngs=rngs)
            self.c2 = conv(features, features, (3, 3), (stride,) * 2, rngs=rngs)
            self.b2 = norm(features, rngs=rngs)
            self.c3, self.b3 = conv(features, 4 * features, (1, 1), rngs=rngs), norm(4 * features, rngs=rngs)
            self.project = project
            if project:
                self.c4 = conv(inputs, 4 * features, (1, 1), (stride,) * 2, rngs=rngs)
                self.b4 = norm(4 * features, rngs=rngs)

        def __call__(self, x):
            y = nnx.relu(self.b2(self.c2(nnx.relu(self.b1(self.c1(x))))))
            return nnx.relu((self.b4(self.c4(x)) if self.project else x) + self.b3(self.c3(y)))

    class ResNet(nnx.Module):
        def __init__(self, rngs):
            self.conv, self.norm = conv(3, 64, (7, 7), (2, 2), rngs=rngs), norm(64, rngs=rngs)
            made, inputs = [], 64
            for stage, blocks in enumerate(size.stages):
                for index in range(blocks):
                    made.append(Block(inputs, 64 << stage, 2 if stage and not index else 1, not index, rngs))
                    inputs = 256 << stage
            self.blocks = nnx.List(made)
            self.head = nnx.Linear(inputs, 1000, dtype=jnp.bfloat16, rngs=rngs)

        def __call__(self, x):
            x = nnx.max_pool(nnx.relu(self.norm(self.conv(x))), (3, 3), (2, 2), "SAME")
            for block in self.blocks:
                x = block(x)
            return self.head(x.mean((1, 2)))

    graphdef, state = nnx.split(ResNet(nnx.Rngs(0)))
    return state, lambda state, x: nnx.merge(graphdef, state)(x)
