"""Products with quantized weights over those with float32 ones, compiled: one token, as in decoding, and a batch."""

from collections.abc import Iterator

import fx_compress
import jax
from fx_core.ops.linear import dense

from benchmarks.measure import Ratio, interleaved

WIDTH = 2048
SCHEMES = {
    "int8": fx_compress.int8(),
    "int8, dynamic": fx_compress.int8(activations="dynamic"),
    "int4, groups of 64": fx_compress.int4(group=64),
}


def cases() -> Iterator[Ratio]:
    kernel = jax.random.normal(jax.random.key(0), (WIDTH, WIDTH)) / WIDTH**0.5
    step = jax.jit(dense)
    for name, scheme in SCHEMES.items():
        small = jax.block_until_ready(scheme.quantize(kernel))
        for rows in (1, 256):
            x = jax.random.normal(jax.random.key(1), (rows, WIDTH))
            yield interleaved(
                f"{rows} × {WIDTH} times {WIDTH} × {WIDTH}, {name} ({small.nbytes / kernel.nbytes:.2f} of the bytes)",
                lambda x=x, small=small: step(x, small).block_until_ready(),
                lambda x=x: step(x, kernel).block_until_ready(),
            )
