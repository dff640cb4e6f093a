"""On an NVIDIA GPU: training steps of GPT-2 124M and ResNet-50 in bfloat16, decoding, attention, products in fp8.

ResNet-50 has group norms. Raw JAX (but for ResNet and decoding), Flax where it is installed, both faces of fx. Needs
nothing but the packages (fx-linen, fx-nnx) and JAX for CUDA; takes under eight minutes, and begins no part when that
time is up:

    python tests-integration/gpu/bench.py
    JAX_PLATFORMS=cpu python tests-integration/gpu/bench.py --tiny      # the same on toy sizes

One line of JSON a row. The share of the peak is that of dense products in bfloat16 of the card, by its name.
"""

import argparse
import dataclasses
import functools
import importlib
import importlib.util
import json
import statistics
import sys
import time
import traceback

import jax
import jax.numpy as jnp

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "4090": 165e12}
BUDGET = 460
LIBRARIES = ("raw", "fx_linen", "fx_nnx", "flax.linen", "flax.nnx")


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


# --- measuring -------------------------------------------------------------------------------------------------------


def seconds(call, count):
    """Median seconds of a call, after one that compiles and one that warms up."""
    for _ in range(2):
        jax.block_until_ready(call())
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def trained(params, run, inputs, labels, size):
    """Seconds of a step of gradient descent with momentum, operations in it by XLA, and the peak of memory so far."""

    def loss(params):
        logits = run(params, inputs).astype(jnp.float32)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1).mean()

    def step(carry):
        params, momentum = carry
        value, grads = jax.value_and_grad(loss)(params)
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
        return (jax.tree.map(lambda p, m: p - 1e-3 * m, params, momentum), momentum), value

    carry = params, jax.tree.map(jnp.zeros_like, params)
    compiled = jax.jit(step, donate_argnums=0).lower(carry).compile()
    operations = (compiled.cost_analysis() or {}).get("flops")
    kept = [carry]
    del carry, params

    def call():
        kept[0], value = compiled(kept[0])
        return value

    taken = seconds(call, size.steps)
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return taken, operations, memory


def peak():
    """Operations a second of the card in bfloat16; None if it is not known."""
    kind = jax.devices()[0].device_kind
    return next((value for name, value in PEAKS.items() if name in kind), None)


def training_row(name, library, made, inputs, labels, count, unit, size):
    taken, operations, memory = trained(*made, inputs, labels, size)
    row = {"what": name, "library": library, "step_ms": 1e3 * taken, unit: count / taken}
    if peak() and operations:
        row["share_of_peak"] = operations / taken / peak()
    return row | ({"peak_gb": memory / 1e9} if memory else {})


def made_by(library, size, linen, nnx, raw):
    if library == "raw":
        return raw(size)
    module = importlib.import_module(library)
    return linen(module, size) if library.endswith("linen") else nnx(module, size)


def gpt(library, size):
    """A training step of the GPT."""
    tokens = jax.random.randint(jax.random.key(1), (size.batch, size.length), 0, size.vocabulary)
    made = made_by(library, size, gpt_linen, gpt_nnx, gpt_by_hand)
    return training_row("GPT step", library, made, tokens, tokens, tokens.size, "tokens_per_s", size)


def resnet(library, size):
    """A training step of ResNet-50; the functional module stands for what is written by hand, as its program is."""
    images = jax.random.normal(jax.random.key(1), (size.images, size.image, size.image, 3))
    labels = jnp.arange(size.images) % 1000
    if library == "raw":
        return None
    made = made_by(library, size, resnet_linen, resnet_nnx, None)
    return training_row("ResNet step", library, made, images, labels, size.images, "images_per_s", size)


def decode(library, size):
    """Attention of one token with a cache."""
    if library == "raw":
        return None
    module, x = importlib.import_module(library), jnp.ones((size.batch, 1, size.width), jnp.bfloat16)
    if library.endswith("linen"):
        layer = module.MultiHeadDotProductAttention(num_heads=size.heads, decode=True, dtype=jnp.bfloat16)
        state = jax.jit(layer.init)(jax.random.key(0), jnp.ones((size.batch, size.length, size.width)))
        step = jax.jit(lambda state: layer.apply(state, x, mutable=["cache"]))
    else:
        layer = module.MultiHeadAttention(size.heads, size.width, decode=True, dtype=jnp.bfloat16, rngs=module.Rngs(0))
        layer.init_cache((size.batch, size.length, size.width), dtype=jnp.bfloat16)
        graphdef, state = module.split(layer)

        @jax.jit
        def step(state):
            inner = module.merge(graphdef, state)
            return inner(x), module.state(inner)

    taken = seconds(lambda: step(state), 5 * size.steps)
    return {"what": "decode, a layer", "library": library, "token_us": 1e6 * taken, "tokens_per_s": size.batch / taken}


def attention(library, size):
    """Attention alone: that of fx against that of JAX."""
    if library not in ("raw", "fx_linen"):
        return None
    keys = jax.random.split(jax.random.key(0), 3)
    shape = size.batch, size.length, size.heads, size.width // size.heads
    q, k, v = (jax.random.normal(key, shape, jnp.bfloat16) for key in keys)
    if library == "raw":
        run = jax.jit(functools.partial(jax.nn.dot_product_attention, is_causal=True))
    else:
        nn = importlib.import_module(library)
        mask = nn.make_causal_mask(jnp.ones(shape[:2]))
        run = jax.jit(lambda q, k, v: nn.dot_product_attention(q, k, v, mask=mask))
    return {"what": "attention", "library": library, "ms": 1e3 * seconds(lambda: run(q, k, v), 5 * size.steps)}


def fp8(library, size):
    """A product in fp8 with scaling, against one in bfloat16."""
    if library not in ("raw", "fx_linen"):
        return None
    width = 4 * size.width
    x = jax.random.normal(jax.random.key(0), (size.batch * size.length, width), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (width, width), jnp.bfloat16)
    if library == "raw":
        run, state = jax.jit(lambda kernel, x: x @ kernel), kernel
    else:
        nn = importlib.import_module(library)
        layer = nn.Dense(width, use_bias=False, dtype=jnp.bfloat16, dot_general_cls=nn.Fp8DotGeneralOp)
        state = jax.jit(layer.init)(jax.random.key(0), x)
        run = jax.jit(layer.apply)
    taken = seconds(lambda: run(state, x), 5 * size.steps)
    return {
        "what": "product, fp8 for fx",
        "library": library,
        "ms": 1e3 * taken,
        "tflops": 2 * x.size * width / taken / 1e12,
    }


PARTS = {"gpt": gpt, "resnet": resnet, "decode": decode, "attention": attention, "fp8": fp8}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this; may be repeated")
    options = parser.parse_args()
    started, failed = time.monotonic(), False
    size = TINY if options.tiny else Size()
    device = jax.devices()[0]
    print(json.dumps({"device": device.device_kind, "jax": jax.__version__, "tiny": options.tiny}), flush=True)
    present = [name for name in LIBRARIES if name == "raw" or importlib.util.find_spec(name.partition(".")[0])]
    for name in options.part or PARTS:
        for library in present:
            if time.monotonic() - started > BUDGET:
                print(json.dumps({"what": name, "library": library, "skipped": "the time was up"}), flush=True)
                continue
            try:
                row = PARTS[name](library, size)
            except Exception:
                traceback.print_exc(limit=-3)
                row, failed = {"what": name, "library": library, "failed": True}, True
            if row is not None:
                print(json.dumps(row), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
