"""Quantized weights against float32 ones: products, a step of decoding, the first answer of a process, its memory."""

import dataclasses
import functools
import tempfile
from collections.abc import Iterator
from typing import Any

import fx_compress
import fx_linen as nn
import jax
import jax.numpy as jnp
from fx_core.ops.linear import dense

from benchmarks.measure import Ratio, interleaved, wanted
from benchmarks.programs import figures, rows

WIDTH = 2048
SCHEMES = {
    "int8": fx_compress.int8(),
    "int8, dynamic": fx_compress.int8(activations="dynamic"),
    "int4, groups of 64": fx_compress.int4(group=64),
}

# Twelve stacked kernels of 16 MB as float32. One process saves them, others serve them and print the CPU time of
# restoring and the first answer, or the peak of memory beyond that of JAX, in MB.
PROGRAM = """
import functools, sys, time
import fx_ckpt, fx_compress
import jax, jax.numpy as jnp
from fx_core.ops.linear import dense
name, what, path = sys.argv[1:]
SCHEMES = {"int8": fx_compress.int8(), "int4": fx_compress.int4(group=64)}
def make():
    keys = jax.random.split(jax.random.key(0), 12)
    model = {"kernel": jax.lax.map(lambda key: jax.random.normal(key, (2048, 2048)) / 45, keys)}
    rules = [fx_compress.Rule("kernel", SCHEMES.get(name), stacked=1)]
    return model if name == "raw" else fx_compress.quantize(model, rules)
def run(model, x):
    return jax.lax.scan(lambda h, kernel: (jnp.tanh(dense(h, kernel)), None), x, model["kernel"])[0]
if what == "save":
    fx_ckpt.save(path, make(), backend="msgpack")
    print(0)
else:
    template, x = jax.eval_shape(make), jax.block_until_ready(jnp.ones((1, 2048)))
    def memory():
        # Not `ru_maxrss`, which begins with the peak of the process that started this one.
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    before, started = memory(), time.process_time()
    jax.block_until_ready(jax.jit(run)(fx_ckpt.restore(path, template), x))
    print(time.process_time() - started if what == "s" else memory() - before)
"""


class Decoder(nn.Module):
    """The blocks of the GPT of `examples/gpt`, for one token at a time, and its last layer."""

    layers: int = 4
    features: int = 128

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.layers):
            x = x + nn.MultiHeadDotProductAttention(num_heads=4, decode=True)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.features)(nn.gelu(nn.Dense(4 * self.features)(nn.LayerNorm()(x))))
        return nn.Dense(96)(x)


def products() -> Iterator[Ratio]:
    """One token, as in decoding, and a batch."""
    kernel = jax.random.normal(jax.random.key(0), (WIDTH, WIDTH)) / WIDTH**0.5
    step = jax.jit(dense)
    for name, scheme in SCHEMES.items():
        small = jax.block_until_ready(scheme.quantize(kernel))
        for count in (1, 256):
            x = jax.random.normal(jax.random.key(1), (count, WIDTH))
            yield interleaved(
                f"{count} × {WIDTH} times {WIDTH} × {WIDTH}, {name} ({small.nbytes / kernel.nbytes:.2f} of the bytes)",
                lambda x=x, small=small: step(x, small).block_until_ready(),
                lambda x=x: step(x, kernel).block_until_ready(),
            )


def decoding() -> Iterator[Ratio]:
    """A token through a small GPT with its cache."""
    x, text = jnp.ones((1, 1, 128)), jnp.ones((1, 128, 128))
    variables = jax.jit(Decoder().init)(jax.random.key(0), text)
    step = jax.jit(lambda variables, x: Decoder().apply(variables, x, mutable=["cache"]))

    def run(variables: Any) -> Any:
        return jax.block_until_ready(step(variables, x))

    for name, scheme in SCHEMES.items():
        small = fx_compress.quantize(variables, {"params/*/kernel": scheme})
        yield interleaved(
            f"a token of the GPT, {name}", functools.partial(run, small), functools.partial(run, variables)
        )


def serving() -> Iterator[Ratio]:
    """Processes that restore a checkpoint and answer once."""
    cases = {"restore and first answer, CPU time": "s", "peak of memory from restoring on": "MB"}
    if not any(map(wanted, cases)):
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: f"{folder}/{name}" for name in ("int8", "int4", "raw")}
        for name, path in paths.items():
            figures(PROGRAM, name, "save", path)
        for case, unit in cases.items():
            if wanted(case):
                programs = {name: (PROGRAM, name, unit, path) for name, path in paths.items()}
                for row in rows(case, programs, rounds=2, unit=unit):
                    yield dataclasses.replace(row, case=f"{case}, {row.library}", library="fx")


def cases() -> Iterator[Ratio]:
    yield from products()
    yield from decoding()
    yield from serving()
