"""Decoding one token with a cache: a layer of attention, compiled, against the same written by hand."""

import importlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.measure import Ratio, side_by_side, wanted

BATCH, HEADS, WIDTH, LENGTH = 4, 8, 256, 256


def repeated(step: Callable[..., Any], state: Any) -> Callable[[], object]:
    """Call a compiled step with the cache that the last one left; the position is put back, so that it never ends."""
    compiled, x = jax.jit(step), jnp.ones((BATCH, 1, WIDTH))
    return lambda: jax.block_until_ready(compiled(state, x))


def linen(nn: Any) -> tuple[Callable[..., Any], Any]:
    """Attention of a functional module."""
    model = nn.MultiHeadDotProductAttention(num_heads=HEADS, decode=True)
    variables = model.init(jax.random.key(0), jnp.ones((BATCH, LENGTH, WIDTH)))
    return lambda variables, x: model.apply(variables, x, mutable=["cache"]), variables


def nnx(nnx: Any) -> tuple[Callable[..., Any], Any]:
    """Attention of an object module."""
    model = nnx.MultiHeadAttention(HEADS, WIDTH, decode=True, rngs=nnx.Rngs(0))
    model.init_cache((BATCH, LENGTH, WIDTH))
    graphdef, state = nnx.split(model)

    def step(state: Any, x: jax.Array) -> Any:
        inner = nnx.merge(graphdef, state)
        return inner(x), nnx.state(inner)

    return step, state


def by_hand() -> tuple[Callable[..., Any], Any]:
    """The same on arrays."""
    features = WIDTH // HEADS
    keys = jax.random.split(jax.random.key(0), 4)
    params = {n: jax.random.normal(k, (WIDTH, HEADS, features)) / 16 for n, k in zip("qkv", keys)}
    params["out"] = jax.random.normal(keys[3], (HEADS, features, WIDTH)) / 16
    biases = {name: jnp.zeros((HEADS, features)) for name in "qkv"} | {"out": jnp.zeros(WIDTH)}
    cache = {name: jnp.zeros((BATCH, LENGTH, HEADS, features)) for name in "kv"}

    def step(state: Any, x: jax.Array) -> Any:
        params, biases, cache, index = state
        q, k, v = (jnp.einsum("blm,mhd->blhd", x, params[n]) + biases[n] for n in "qkv")
        cache = {n: jax.lax.dynamic_update_slice(cache[n], y, (0, index, 0, 0)) for n, y in (("k", k), ("v", v))}
        weights = jnp.einsum("bqhd,bkhd->bhqk", q / features**0.5, cache["k"])
        weights = jax.nn.softmax(jnp.where(jnp.arange(LENGTH) <= index, weights, jnp.finfo(q.dtype).min))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, cache["v"])
        return jnp.einsum("blhd,hdm->blm", mixed, params["out"]) + biases["out"], (params, biases, cache, index + 1)

    return step, (params, biases, cache, jnp.int32(0))


def cases(libraries: tuple[str, ...] = ("fx_linen", "fx_nnx")) -> Iterator[Ratio]:
    case = f"one token, {BATCH} sequences of {LENGTH}, {HEADS} heads of {WIDTH // HEADS}"
    if wanted(case):
        sides = {"raw": repeated(*by_hand())}
        for library in libraries:
            make = linen if library.endswith("linen") else nnx
            sides[library] = repeated(*make(importlib.import_module(library)))
        yield from side_by_side(case, sides, rounds=51, clock=time.perf_counter)
