"""On an NVIDIA GPU: attention by cuDNN against the plain way, and initializers against those of JAX.

Needs JAX for CUDA and the `src` directories of fx-core (and of fx-transforms and fx-linen for the last check of
attention) on PYTHONPATH, nothing else:

    PYTHONPATH=packages/fx-core/src:packages/fx-transforms/src:packages/fx-linen/src \
        python tests-integration/gpu/check_attention.py

One line a check: ``ok``, ``FAIL`` or ``note`` (a figure that nothing depends on), what was checked, what was found.
The exit status is 1 if a check failed. The whole takes about a minute.
"""

import functools
import statistics
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from fx_core.ops import attention, initializers
from fx_core.ops.attention import cudnn
from fx_core.ops.initializers import chunked, random

STARTED = time.perf_counter()
KERNEL = "__cudnn$fmha"
failed = []


def report(name, ok, found):
    if ok is False:
        failed.append(name)
    word = {True: "ok  ", False: "FAIL", None: "note"}[ok]
    print(f"[{time.perf_counter() - STARTED:5.1f} s] {word} {name}: {found}", flush=True)


waiting = []


def check(name):
    """Put a function among the checks that `run_checks` runs."""

    def put(function):
        waiting.append((name, function))
        return function

    return put


def run_checks():
    """Run them at once, as nearly all of their time is compilation; what one raises is its failure."""

    def run(item):
        name, function = item
        try:
            return name, *function()
        except Exception as error:
            traceback.print_exc(limit=-3, file=sys.stdout)
            return name, False, f"raised {type(error).__name__}: {str(error).splitlines()[0][:150]}"

    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(run, waiting):
            report(*result)
    waiting.clear()


def arrays(dtype, batch=2, length=256, heads=8, kv_heads=8, depth=64, keys=None):
    sizes = [(length, heads), (keys or length, kv_heads), (keys or length, kv_heads)]
    seeds = jax.random.split(jax.random.key(0), 3)
    return tuple(jax.random.normal(s, (batch, n, h, depth)).astype(dtype) for s, (n, h) in zip(seeds, sizes))


def mask_of(*shape):
    mask = np.random.default_rng(0).random(shape) > 0.3
    mask[..., 3, :] = False  # a query that sees nothing
    return jnp.asarray(mask)


def chosen(*xs, **options):
    return attention.dot_product_attention(*xs, **options)


def plain(*xs, **options):
    """The same in the same dtype, with weights in an array."""
    return attention.dot_product_attention(*xs, **options, sow=lambda weights: None)


def exact(*xs, **options):
    """The same in float32."""
    with jax.default_matmul_precision("highest"):
        return plain(*(x.astype(jnp.float32) for x in xs), **options)


def loss(fn, xs):
    weights = jnp.linspace(0.5, 1.5, xs[0].shape[-1]).reshape(1, 1, 1, -1)
    return jnp.sum(fn(*xs).astype(jnp.float32) ** 2 * weights)


def compute(way, mode, xs, options):
    fn = functools.partial(way, **options)
    if mode == "forward":
        return fn(*xs)
    if mode == "jvp":
        return jax.jvp(fn, xs, tuple(x[::-1] for x in xs))
    gradients = jax.grad(lambda *xs: loss(fn, xs), argnums=(0, 1, 2))(*xs)
    return gradients if mode == "gradient" else (fn(*xs), gradients)


def error(got, want):
    """The largest difference, as a part of the largest number."""
    pairs = [(np.asarray(a, np.float32), np.asarray(b, np.float32)) for a, b in zip(*map(jax.tree.leaves, (got, want)))]
    assert all(np.isfinite(a).all() for a, _ in pairs), "not finite"
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


QUICK = {"xla_gpu_autotune_level": 0}
"""Choosing among kernels by measuring them takes most of the time of compilation."""


def against_float32(run, *xs):
    """Compile ``run(way, *xs)`` for three ways, and compare.

    Args:
      run: computes something by the given way.
      *xs: arrays.

    Returns:
      Whether all is well, and text: the kernel has to be compiled in, and the error to be that of rounding.
    """
    compiled = jax.jit(functools.partial(run, chosen)).lower(*xs).compile(compiler_options=QUICK)
    others = jax.jit(lambda *xs: (run(plain, *xs), run(exact, *xs))).lower(*xs).compile(compiler_options=QUICK)
    fused = KERNEL in compiled.as_text()
    rounded, want = others(*xs)
    ours, theirs = error(compiled(*xs), want), error(rounded, want)
    # Both are roundings of the same thing; the plain way rounds at other places.
    close = ours <= 2 * theirs + 4 * float(jnp.finfo(xs[0].dtype).eps)
    found = f"error {ours:.1e}, plain {theirs:.1e}" + ("" if fused else ", and NO cuDNN kernel was compiled")
    return close and fused, found


def attention_checks():
    cases = {
        "nothing": ({}, {}),
        "causal, 4 kv heads": ({"kv_heads": 4}, {"is_causal": True}),
        "mask (b,1,q,k)": ({}, {"mask": mask_of(2, 1, 256, 256)}),
        "mask (b,1,1,k)": (
            {},
            {"mask": jnp.arange(256).reshape(1, 1, 1, -1) < jnp.array([256, 77]).reshape(2, 1, 1, 1)},
        ),
        "mask (b,h,q,k) and causal": ({}, {"mask": mask_of(2, 8, 256, 256), "is_causal": True}),
        "1 kv head, other keys": ({"kv_heads": 1, "keys": 512, "depth": 128}, {}),
        "bias (1,h,q,k)": ({}, {"bias": "bias"}),
        "mask (1,1,q,k)": ({}, {"mask": mask_of(1, 1, 256, 256)}),
    }
    for dtype in (jnp.bfloat16, jnp.float16):
        for name, (shape, options) in cases.items():
            if dtype == jnp.float16 and name not in ("nothing", "mask (b,1,q,k)"):
                continue
            xs = arrays(dtype, **shape)
            if "bias" in options:
                options = {"bias": jax.random.normal(jax.random.key(9), (1, 8, 256, 256)).astype(dtype)}
            for mode in ["forward and gradient", "jvp"][: 2 if name == "mask (b,1,q,k)" else 1]:

                def run(way, *xs, mode=mode, options=options):
                    return compute(way, mode, xs, options)

                check(f"{np.dtype(dtype).name}, {name}, {mode}")(functools.partial(against_float32, run, *xs))

    bias = jax.random.normal(jax.random.key(9), (1, 8, 256, 256)).astype(jnp.bfloat16)

    def of_bias(way, *xs):
        return jax.grad(lambda b: jnp.sum(way(*xs, bias=b).astype(jnp.float32) ** 2))(bias)

    check("gradient of a bias")(functools.partial(against_float32, of_bias, *arrays(jnp.bfloat16)))

    def batched(way, queries, *rest):
        return jax.vmap(lambda q: compute(way, "gradient", (q, *rest), {}))(queries)

    query, *rest = arrays(jnp.bfloat16)
    queries = jnp.stack([query, query[::-1], -query])
    check("vmap of gradients, keys shared")(functools.partial(against_float32, batched, queries, *rest))

    def looped(way, query, key, value):
        body = jax.checkpoint(lambda x, _: (way(x, key, value).astype(x.dtype), None))
        return jax.grad(lambda x: jnp.sum(jax.lax.scan(body, x, None, length=3)[0].astype(jnp.float32) ** 2))(query)

    check("rematerialized in a loop, gradient")(functools.partial(against_float32, looped, *arrays(jnp.bfloat16)))

    @check("odd lengths take the plain way")
    def _():
        xs = arrays(jnp.bfloat16, length=255, keys=257)
        compiled = jax.jit(chosen).lower(*xs).compile(compiler_options=QUICK)
        ours = error(compiled(*xs), exact(*xs))
        return ours < 0.02 and KERNEL not in compiled.as_text(), f"error {ours:.1e}"

    @check("eager")
    def _():
        xs = arrays(jnp.bfloat16)
        ours = error(chosen(*xs), exact(*xs))
        return ours < 0.02, f"error {ours:.1e}"

    @check("exported for cpu and cuda, run here")
    def _():
        xs = arrays(jnp.bfloat16)
        program = jax.export.export(jax.jit(chosen), platforms=("cpu", "cuda"))(*xs)
        ours = error(program.call(*xs), exact(*xs))
        return ours < 0.02 and KERNEL not in program.mlir_module(), f"error {ours:.1e}"

    @check("an array on the CPU of this process")
    def _():
        cpu = jax.devices("cpu")[0]
        xs = tuple(jax.device_put(x, cpu) for x in arrays(jnp.bfloat16))
        result = chosen(*xs)
        ours = error(result, exact(*xs))
        return ours < 0.02 and result.devices() == {cpu}, f"error {ours:.1e} on {result.devices()}"

    @check("fx_linen, dropout that is off")
    def _():
        try:
            import fx_linen as nn
        except ImportError as problem:
            return None, f"not checked: {problem}"
        layer = nn.MultiHeadDotProductAttention(num_heads=8, dropout_rate=0.1, dtype=jnp.bfloat16)
        x = jnp.ones((2, 256, 512), jnp.bfloat16)
        variables = layer.init(jax.random.key(0), x, deterministic=True)
        run = jax.jit(functools.partial(layer.apply, deterministic=True)).lower(variables, x).compile()
        with_dropout = jax.jit(functools.partial(layer.apply, deterministic=False, rngs={"dropout": jax.random.key(1)}))
        dropping = with_dropout.lower(variables, x).compile()
        texts = [KERNEL in program.as_text() for program in (run, dropping)]
        return texts == [True, False], f"cuDNN without and with dropout: {texts}"


def milliseconds(fn, *xs, rounds=10, calls=5):
    jax.block_until_ready(fn(*xs))
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            out = fn(*xs)
        jax.block_until_ready(out)
        taken.append((time.perf_counter() - start) / calls)
    return statistics.median(taken) * 1e3


def xla(*xs, **options):
    return attention.dot_product_attention(*xs, **options, implementation="xla")


def timings():
    for batch, length, options in [
        (4, 2048, {}),
        (4, 2048, {"is_causal": True}),
        (4, 2048, {"mask": mask_of(4, 1, 2048, 2048)}),
        (64, 64, {}),
        (32, 128, {}),
        (8, 512, {}),
    ]:
        xs = arrays(jnp.bfloat16, batch=batch, length=length, heads=16, kv_heads=16)
        for mode in ("forward", "gradient"):

            def run(way, *xs, mode=mode, options=options):
                return compute(way, mode, xs, options)

            if time.perf_counter() - STARTED > 85:
                report(f"time of {mode} at {batch} x {length}", None, "not reached in time")
                continue
            try:
                ours, theirs = (milliseconds(jax.jit(functools.partial(run, way)), *xs) for way in (chosen, xla))
            except Exception as problem:
                report(f"time of {mode} at {batch} x {length}", False, str(problem).splitlines()[0][:150])
                continue
            name = f"time of {mode}, bfloat16, batch {batch}, length {length}, {'/'.join(options) or 'nothing'}"
            report(name, None, f"{ours:.3f} ms chosen, {theirs:.3f} ms XLA: {theirs / ours:.2f} times faster")


SHAPES = [(64,), (16, 33), (128, 512), (3, 3, 64, 128), (1000, 130)]
DRAWS = {
    "lecun_normal": initializers.lecun_normal(),
    "glorot_uniform": initializers.glorot_uniform(),
    "he_normal": initializers.he_normal(),
    "normal": initializers.normal(0.02),
    "truncated_normal": initializers.truncated_normal(0.02),
    "uniform": initializers.uniform(0.1),
    "variance_scaling normal": initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0),
}
THEIRS = {
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "he_normal": jax.nn.initializers.he_normal(),
    "normal": jax.nn.initializers.normal(0.02),
    "truncated_normal": jax.nn.initializers.truncated_normal(0.02),
    "uniform": jax.nn.initializers.uniform(0.1),
    "variance_scaling normal": jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0),
}


def compare_draws(name):
    """How many arrays are equal to the bit, and by how many units in the last place the others differ."""
    equal = total = furthest = 0
    for shape in SHAPES:
        if len(shape) < 2 and name not in ("normal", "truncated_normal", "uniform"):
            continue
        for dtype in ("float32", "bfloat16"):
            for seed in (0, 1):
                key = jax.random.key(seed)
                a = np.asarray(DRAWS[name](key, shape, jnp.dtype(dtype)))
                b = np.asarray(THEIRS[name](key, shape, jnp.dtype(dtype)))
                bits = np.dtype(f"int{8 * a.dtype.itemsize}")
                apart = int(np.abs(a.view(bits).astype(np.int64) - b.view(bits).astype(np.int64)).max())
                equal, total, furthest = equal + (apart == 0), total + 1, max(furthest, apart)
    return equal, total, furthest


def as_it_is(name):
    equal, total, furthest = compare_draws(name)
    return equal == total, f"{equal} of {total} arrays equal jax.nn.initializers to the bit (apart: {furthest})"


def in_chunks(name):
    equal, total, furthest = compare_draws(name)
    return None, f"{equal} of {total} arrays equal to the bit; the others at most {furthest} units in the last place"


def initializer_checks():
    for name in DRAWS:
        check(f"initializer {name} as it is")(functools.partial(as_it_is, name))
    run_checks()
    for name in DRAWS:
        check(f"initializer {name} drawn in chunks of {chunked.CHUNK}")(functools.partial(in_chunks, name))
    before = random.chunkable
    random.chunkable = lambda key: True  # as on CPU
    try:
        run_checks()
    finally:
        random.chunkable = before


def main():
    device = jax.devices()[0]
    report("device", None, f"{device.device_kind}, JAX {jax.__version__}, capability {cudnn.cudnn_capability()}")

    @check("cuDNN is found")
    def _():
        ready = cudnn.cudnn_capability() is not None
        return ready, "there" if ready else "fx would take the plain way everywhere; is JAX for CUDA installed?"

    initializer_checks()
    attention_checks()
    run_checks()
    timings()
    print(f"{len(failed)} checks failed" + "".join(f"\n  {name}" for name in failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
