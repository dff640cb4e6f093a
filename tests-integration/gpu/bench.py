"""On an NVIDIA GPU: training steps of GPT-2 124M and ResNet-50 in bfloat16, decoding, attention, products in fp8.

ResNet-50 has group norms. Raw JAX (but for ResNet and decoding), Flax where it is installed, both faces of fx. Needs
nothing but the packages (fx-linen, fx-nnx) and JAX for CUDA; takes under eight minutes, and begins no part when that
time is up:

    python tests-integration/gpu/bench.py
    JAX_PLATFORMS=cpu python tests-integration/gpu/bench.py --tiny      # the same on toy sizes

One line of JSON a row. The share of the peak is that of dense products in bfloat16 of the card, by its name.
"""

import argparse
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
from models import TINY, Size, gpt_by_hand, gpt_linen, gpt_nnx, resnet_linen, resnet_nnx

PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L4": 121e12, "4090": 165e12}
BUDGET = 460
LIBRARIES = ("raw", "fx_linen", "fx_nnx", "flax.linen", "flax.nnx")


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
