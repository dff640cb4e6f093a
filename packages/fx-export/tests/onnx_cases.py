"""Programs that together use every primitive that is translated to ONNX."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

RANDOM = np.random.RandomState(0)
X = RANDOM.randn(3, 4, 5).astype(np.float32)
Y = np.roll(X, 1, 0)
U = (RANDOM.rand(3, 4, 5) * 0.9 + 0.01).astype(np.float32)
I = RANDOM.randint(-9, 9, (3, 4, 5)).astype(np.int32)  # noqa: E741
J = np.where(np.roll(I, 1, 0) == 0, 1, np.roll(I, 1, 0)).astype(np.int32)
B, C = X > 0, Y > 0
WHERE = np.array([0, 2, -1, 5, 1], np.int32)
IMAGES = RANDOM.randn(2, 8, 9, 4).astype(np.float32)
KERNEL = RANDOM.randn(3, 2, 4, 6).astype(np.float32)
WORDS = np.array([3, 4], np.uint32)
HALF = jnp.bfloat16


@dataclasses.dataclass(frozen=True)
class Case:
    """A function of arrays with the arrays; it gives a dict, so that a difference has a name."""

    name: str
    fn: Callable[..., Mapping[str, Any]]
    inputs: tuple[Any, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


CASES: list[Case] = []


def case(*inputs: Any, **options: Any) -> Callable[[Any], Any]:
    def add(fn: Any) -> Any:
        CASES.append(Case(fn.__name__, fn, inputs, options))
        return fn

    return add


def each(functions: list[Any], *inputs: Any) -> dict[str, Any]:
    return {getattr(fn, "__name__", "?") + str(n): fn(*inputs) for n, fn in enumerate(functions)}


@case(X)
def functions_of_one_float(x):
    away = lax.RoundingMethod.AWAY_FROM_ZERO
    plain = [jnp.abs, jnp.exp, jnp.tanh, jnp.sin, jnp.cos, jnp.tan, jnp.arctan, jnp.sinh, jnp.cosh, jnp.arcsinh]
    plain += [jnp.ceil, jnp.floor, jnp.round, jnp.sign, jnp.isfinite, jnp.isnan, jnp.isinf, jnp.square, jnp.cbrt]
    plain += [jnp.expm1, jnp.exp2, lax.erf, lax.erfc, lax.logistic, jnp.negative, jnp.nan_to_num]
    own = [lambda x: lax.round(x * 2, away), lambda x: lax.integer_pow(x, 3), lambda x: lax.integer_pow(x, -2)]
    own += [
        lambda x: lax.reduce_precision(x, 8, 7),
        lambda x: jnp.expm1(x * 1e-6),
        lambda x: lax.reduce_precision(x, 5, 10),
    ]
    return each(plain + own, x)


@case(X)
def activations(x):
    a = jax.nn
    named = [a.softplus, a.gelu, a.silu, a.softmax, a.log_softmax, a.elu, a.selu, a.relu6, a.hard_swish, a.mish, a.relu]
    return each([*named, lambda x: a.gelu(x, approximate=False), a.logsumexp], x)


@case(U)
def functions_of_one_positive_float(x):
    plain = [jnp.sqrt, lax.rsqrt, jnp.log, jnp.log1p, jnp.log2, jnp.arcsin, jnp.arccos, jnp.arctanh, lax.erf_inv]
    return each([*plain, lambda x: jnp.arccosh(x + 1.5), lambda x: jnp.log1p(x * 1e-6)], x)


@case(X, Y)
def functions_of_two_floats(x, y):
    plain = [jnp.add, jnp.subtract, jnp.multiply, jnp.divide, jnp.maximum, jnp.minimum, jnp.arctan2, lax.rem, jnp.mod]
    plain += [jnp.equal, jnp.not_equal, jnp.less, jnp.greater, jnp.greater_equal, jnp.less_equal, jnp.logaddexp]
    return {**each(plain, x, y), "pow": jnp.abs(x) ** y, "clip": jnp.clip(x, -1, y), "where": jnp.where(x > y, x, y)}


@case(X, Y, opset=26)
def bits_of_floats(x, y):
    return {"next": jnp.nextafter(x, y), "bits": lax.bitcast_convert_type(x, jnp.int32)}


@case(np.array([0, 1, 0x3F800000, 0x80000001, 0x7F800000, 0xFF800000, 0xC1234567, 0x00400000, 0x807FFFFF], np.uint32))
def floats_of_bits(x):
    short = (x >> 16).astype(jnp.uint16)
    return {"float": lax.bitcast_convert_type(x, jnp.float32), "half": lax.bitcast_convert_type(short, jnp.bfloat16)}


def integers_of(dtype):
    def fn(x, y):
        binary = [jnp.add, jnp.subtract, jnp.multiply, lax.div, lax.rem, jnp.mod, jnp.maximum, jnp.bitwise_and]
        binary += [jnp.minimum, jnp.bitwise_or, jnp.bitwise_xor, jnp.less, jnp.not_equal, jnp.floor_divide]
        unary = [jnp.invert, lax.population_count, jnp.square, jnp.sign, jnp.negative]
        few = jnp.abs(y)
        shifts = [lax.shift_left, lax.shift_right_logical, lax.shift_right_arithmetic]
        two = jnp.full_like(x, 2)
        constant = {f"by two {n}": shift(x, two) for n, shift in enumerate(shifts)}
        return {**each(binary, x, y), **each(unary, x), **each(shifts, x, few), **constant}

    fn.__name__ = f"arithmetic_of_{np.dtype(dtype).name}"
    return fn


for _dtype in (np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32):
    _nonzero = np.where(J.astype(_dtype) == 0, 1, J.astype(_dtype)).astype(_dtype)
    case(I.astype(_dtype), _nonzero)(integers_of(_dtype))


@case(B, C)
def logic(x, y):
    binary = [jnp.logical_and, jnp.logical_or, jnp.logical_xor, jnp.not_equal, jnp.equal, jnp.less, jnp.maximum]
    binary += [jnp.minimum, jnp.add, jnp.multiply]
    rest = {"not": ~x, "where": jnp.where(x, y, ~y), "any": x.any(1), "all": x.all((0, 2)), "sort": jnp.sort(x, 1)}
    odd = {"xor": lax.reduce_xor(x, (1,)), "argmax": x.argmax(-1), "max": jnp.max(x, 0), "rows": x[jnp.array([2, 0])]}
    return {**each(binary, x, y), **rest, **odd}


def moves_of(dtype):
    def fn(x, where):
        cast = {"float": x.astype(jnp.float32), "int": x.astype(jnp.int32), "bool": x.astype(bool)}
        spread = {"spread": jnp.broadcast_to(x[:, None], (3, 2, 4, 5)), "joined": jnp.concatenate([x, x], 1)}
        padded = {"padded": jnp.pad(x, ((1, 0), (0, 2), (0, 0))), "chosen": jnp.where(where, x, x[::-1])}
        least = {"max": x.max(1), "min": x.min((0, 2)), "sorted": jnp.sort(x, 1), "stacked": jnp.stack([x, x], 2)}
        written = {"set": x.at[1].set(x[0]), "row": x[jnp.array([1, 1])], "tile": jnp.tile(x, (1, 2, 1))}
        part = lax.dynamic_update_slice(x, x[:, :1], (0, x[0, 0, 0].astype(int), 0))
        return {**cast, **spread, **padded, **least, **written, "part": part}

    fn.__name__ = f"moves_of_{np.dtype(dtype).name}"
    return fn


for _dtype in (np.int8, np.int16, np.int32, np.uint8, np.uint32, np.float16, HALF, bool):
    case(np.abs(X).astype(_dtype), B)(moves_of(_dtype))


@case(X * 100)
def casts_from_floats(x):
    dtypes = (jnp.int8, jnp.uint8, jnp.int16, jnp.int32, jnp.uint32, jnp.float16, HALF, bool)
    huge = {"huge": (x * 1e9).astype(jnp.int32), "rounded": x.astype(HALF).astype(jnp.float32)}
    return {**{np.dtype(d).name: x.astype(d) for d in dtypes}, **huge}


@case(X, I)
def reductions(x, i):
    result = {}
    for axis in (None, 0, (0, 2), -1):
        for fn in (jnp.sum, jnp.mean, jnp.max, jnp.min, jnp.prod, jnp.var):
            result[f"{fn.__name__} {axis}"] = fn(x, axis)
        for fn in (jnp.sum, jnp.max, jnp.prod):
            result[f"{fn.__name__} int {axis}"] = fn(i, axis)
    places = {"argmax": x.argmax(1), "argmin": i.argmin(-1), "flat": x.argmax()}
    return {**result, **places, "xor": lax.reduce_xor(i, (1,))}


@case(np.where(X[1, 2, 3] == X, np.nan, X))
def orders_with_nan(x):
    found = jnp.searchsorted(jnp.arange(5.0), x)
    return {"argmax": x.argmax(1), "sort": jnp.sort(x, -1), "found": found, "sign": jnp.sign(x)}


@case(X, I)
def order(x, i):
    tops = {"top": lax.top_k(x, 3), "top int": lax.top_k(i, 2), "top half": lax.top_k(x.astype(HALF), 2)}
    tops |= {"most": lax.approx_max_k(x, 2), "least": lax.approx_min_k(x, 2, reduction_dimension=1)}
    sorts = {"sort": jnp.sort(x, 1), "falling": jnp.sort(i, -1, descending=True), "small": jnp.sort(i.astype(jnp.int8))}
    args = {"argsort": jnp.argsort(i, -1), "lexsort": jnp.lexsort((i[0], i[1] // 3)), "median": jnp.median(x, 1)}
    return {**tops, **sorts, **args, "unique": jnp.unique(i, size=4), "nonzero": jnp.nonzero(i > 0, size=5)}


@case(X, I)
def shapes(x, i):
    pads = {
        "gaps": lax.pad(x, 0.0, ((0, 0, 1), (-1, 2, 2), (1, -2, 0))),
        "ints": lax.pad(i, 1, ((0, 0, 1), (-1, 2, 2), (1, -2, 0))),
    }
    turned = {"reshape": x.reshape(12, 5).T, "flip": jnp.flip(x, (0, 2)), "negative": x[:, ::-1]}
    sums = {
        "transposed": x.transpose(2, 0, 1) + x.transpose(2, 0, 1)[::-1],
        "outer": x[0, :, 0][:, None] * x[0, 0][None],
    }
    parts = {"slice": x[1:, ::2, 1:4], "split": jnp.split(x, 2, 1), "repeat": jnp.repeat(x, 2, 1)}
    counted = {"iota": x + jnp.arange(5.0)[None, None] + lax.broadcasted_iota(jnp.float32, (1, 4, 5), 1)}
    same = {"copy": jnp.copy(x), "stop": lax.stop_gradient(x), "barrier": lax.optimization_barrier(x)}
    back = {"squeeze": lax.expand_dims(x, (1,)).squeeze(1), "clamp": lax.clamp(-1.0, x, 1.0)}
    return {**pads, **turned, **sums, **parts, **counted, **same, **back}


@case(X)
def large_constants(x):
    rows, columns = (lax.broadcasted_iota(jnp.int32, (1200, 1200), axis) for axis in (0, 1))
    return {"sum": (rows > columns).sum() + x.sum().astype(int)}


@case(X, np.swapaxes(X, 1, 2).copy(), I)
def products(x, y, i):
    axes = [(([2], [1]), ([0], [0])), (([1, 2], [2, 1]), ([], [])), (([0], [0]), ([2], [1])), (([], []), ([0], [0]))]
    axes += [(([], []), ([], [])), (([0, 1, 2], [0, 2, 1]), ([], [])), (([0], [0]), ([2, 1], [1, 2]))]
    general = {str(n): lax.dot_general(x, y, numbers) for n, numbers in enumerate(axes)}
    small, half = i.astype(jnp.int8), x.astype(HALF)
    batched = (([2], [2]), ([0], [0]))
    exact = {
        "int8": lax.dot_general(small, small, batched, preferred_element_type=jnp.int32),
        "int": jnp.einsum("abc,adc->abd", i, i),
    }
    wide = {
        "half": jnp.einsum("abc,adc->abd", half, half),
        "single": lax.dot_general(half, half, batched, preferred_element_type=jnp.float32),
    }
    vectors = {"inner": x[0, 0] @ x[1, 1], "right": x[0] @ x[1, 1], "left": x[0, 0] @ x[1].T}
    ragged = {"ragged": lax.ragged_dot(x[0], jnp.stack([y[0], y[1], y[2]])[:, :, :3], jnp.array([1, 0, 2]))}
    return {**general, **ragged, **exact, **wide, **vectors, "einsum": jnp.einsum("abc,adc->bda", x, x)}


def conv(x, kernel, strides=(1, 1), padding="SAME", **options):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)


@case(IMAGES, KERNEL)
def convolutions(x, k):
    grouped = jnp.concatenate([k[:, :, :2]] * 1, 2)
    settings = [{}, {"strides": (2, 1), "padding": "VALID"}, {"padding": ((3, 1), (0, 4)), "rhs_dilation": (2, 1)}]
    settings += [{"padding": ((2, 3), (1, 1)), "lhs_dilation": (2, 3)}]
    settings += [{"strides": (2, 1), "padding": ((0, 0), (4, 0)), "lhs_dilation": (2, 1), "rhs_dilation": (2, 2)}]
    plain = {f"plain {n}": conv(x, k, **s) for n, s in enumerate(settings)}
    groups = {f"groups {n}": conv(x, grouped, feature_group_count=2, **s) for n, s in enumerate(settings)}
    depthwise = {"depthwise": conv(x, jnp.tile(k[:, :, :1], (1, 1, 1, 2))[..., :8], feature_group_count=4)}
    batches = {"batches": conv(x, k, batch_group_count=2)}
    line = lax.conv_general_dilated(x[:, 0], k[0], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
    space = lax.conv_general_dilated(
        x[:, None], k[None], (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    back = {"same": lax.conv_transpose(x, k, (2, 2), "SAME"), "valid": lax.conv_transpose(x, k, (2, 3), "VALID")}
    small = {
        "half": conv((x * 0.3).astype(HALF), (k * 0.3).astype(HALF)),
        "single": conv(x.astype(jnp.float16), k.astype(jnp.float16)),
    }
    exact = {"int8": conv((x * 9).astype(jnp.int8), (k * 9).astype(jnp.int8), preferred_element_type=jnp.int32)}
    return {**plain, **groups, **depthwise, **batches, "line": line, "space": space, **back, **small, **exact}


@case(IMAGES)
def windows(x):
    settings = [((1, 2, 2, 1), (1, 2, 2, 1), "VALID", {}), ((1, 3, 3, 1), (1, 2, 1, 1), "SAME", {})]
    settings += [((1, 3, 1, 2), (1, 1, 1, 1), ((0, 0), (3, 1), (0, 0), (1, 0)), {"window_dilation": (1, 2, 1, 1)})]
    settings += [((2, 2, 2, 1), (1, 1, 1, 1), "VALID", {"base_dilation": (1, 2, 1, 1)})]
    result, i = {}, (x * 20).astype(jnp.int32)
    limits = jnp.iinfo(jnp.int32)
    for n, (size, step, padding, more) in enumerate(settings):
        for start, fn in ((-jnp.inf, lax.max), (jnp.inf, lax.min), (0.0, lax.add)):
            result[f"{fn.__name__} {n}"] = lax.reduce_window(x, start, fn, size, step, padding, **more)
    for start, fn in ((limits.min, lax.max), (limits.max, lax.min), (0, lax.add)):
        result[f"{fn.__name__} int"] = lax.reduce_window(i, start, fn, (1, 2, 3, 1), (1, 2, 1, 1), "SAME")
    for start, fn in ((jnp.int8(-128), lax.max), (jnp.int8(127), lax.min)):
        result[f"{fn.__name__} int8"] = lax.reduce_window(
            i.astype(jnp.int8), start, fn, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"
        )
    return result


@case(X, I)
def running_totals(x, i):
    result = {}
    for fn in (lax.cumsum, lax.cumprod, lax.cummax, lax.cummin, lax.cumlogsumexp):
        result[fn.__name__], result[f"{fn.__name__} back"] = fn(x, 1), fn(x, 2, reverse=True)
    ints = {f"{fn.__name__} int": fn(i, 0) for fn in (lax.cumsum, lax.cumprod, lax.cummax)}
    return {**result, **ints, "int8": lax.cumsum(i.astype(jnp.int8), 1)}


@case(X, I, WHERE)
def gathers(x, i, at):
    takes = {mode: jnp.take(x, at, axis=1, mode=mode) for mode in ("clip", "fill", "wrap")}
    inside = {"inside": x.at[jnp.abs(at) % 3].get(mode="promise_in_bounds"), "ints": jnp.take(i, at, 0, mode="fill")}
    some = {"two": x[at[:3] % 3, :, at[:3] % 5], "three": x[at % 3, at % 4, at % 5], "row": x[:, jnp.clip(at, 0, 3)]}
    along = {
        "along": jnp.take_along_axis(x, jnp.abs(i) % 4, 1),
        "one": jnp.take_along_axis(x, jnp.abs(i[..., :1]) % 5, 2),
    }
    filled = {"filled": x.at[at, at].get(mode="fill", fill_value=7)}
    moved = jax.vmap(lambda x, s: lax.dynamic_slice(x, (s, 1), (2, 3)))(x, at[2:])
    cuts = {
        "cut": lax.dynamic_slice(x, (at[1], 0, at[1]), (2, 4, 2)),
        "before": lax.dynamic_slice(x, (at[2], 0, 1), (2, 4, 2)),
    }
    one_hot = {"one hot": jax.nn.one_hot(at, 6)}
    return {**takes, **inside, **some, **along, **filled, "moved": moved, **cuts, **one_hot}


@case(X, I, WHERE)
def scatters(x, i, at):
    result, rows = {}, jnp.arange(15.0).reshape(3, 5) * 0.1
    for mode in ("clip", "drop"):
        for op in ("set", "add", "multiply", "min", "max", "subtract"):
            result[f"{op} {mode}"] = getattr(x.at[:, at[:1]], op)(2.0, mode=mode)
            result[f"{op} {mode} two"] = getattr(x.at[at[:3], at[2:]], op)(1.0 if op == "set" else rows, mode=mode)
    inside = {"inside": x.at[jnp.abs(at) % 3].add(1.0, mode="promise_in_bounds"), "part": x.at[0:2, 1].add(3.0)}
    kinds = {"int8": i.astype(jnp.int8).at[at % 3].add(jnp.int8(1)), "half": x.astype(HALF).at[at % 3].add(HALF(1))}
    moved = jax.vmap(lambda x, s: lax.dynamic_update_slice(x, jnp.ones((2, 3)), (s, 1)))(x, at[2:])
    sums = {"sums": jax.ops.segment_sum(x, jnp.array([0, 3, 0]), 4), "counts": jnp.bincount(jnp.abs(at), length=6)}
    parts = {
        "one": lax.dynamic_update_slice(x, jnp.ones((1, 4, 2)), (at[1], 0, at[1])),
        "early": lax.dynamic_update_slice(x, jnp.ones((3, 1, 5)), (0, at[2], 0)),
    }
    return {**result, **inside, **kinds, "moved": moved, **sums, **parts}


@jax.custom_vjp
def doubled(x):
    return x * 2


doubled.defvjp(lambda x: (x * 2, None), lambda saved, g: (g,))


@case(X, np.int32(1))
def control_flow(x, n):
    zero = jnp.zeros((4, 5))
    scans = {
        "scan": lax.scan(lambda c, x: (c * 0.5 + x, c), zero, x),
        "back": lax.scan(lambda c, x: (c * 0.5 + x, c + 1), zero, x, reverse=True),
    }
    counted = {
        "length": lax.scan(lambda c, _: (c * 0.5, c.sum()), x, None, length=4),
        "length back": lax.scan(lambda c, _: (c * 0.5, c.sum()), x, None, length=4, reverse=True),
    }
    loops = {
        "fori": lax.fori_loop(0, 5, lambda i, x: x * 0.5 + i, x),
        "while": lax.while_loop(lambda c: c[1].sum() < 30, lambda c: (c[0] + 1, c[1] * 2), (0, jnp.abs(x))),
    }
    each_stops = jax.vmap(lambda x: lax.while_loop(lambda c: c.sum() < 10, lambda c: c + 1, x))(x)
    branches = {
        "cond": lax.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, x),
        "switch": lax.switch(n + 4, [lambda x: x, lambda x: -x, lambda x: x * 3], x),
        "second": lax.switch(n, [lambda x: x, lambda x: -x, lambda x: x * 3], x),
    }
    inner = lax.scan(
        lambda c, x: (
            lax.cond(c.sum() > 0, lambda c: c - 1, lambda c: lax.fori_loop(0, 2, lambda _, c: c + x, c), c),
            lax.scan(lambda a, b: (a + b, a), jnp.zeros(5), c)[1],
        ),
        zero,
        x,
    )
    half = lax.scan(lambda c, x: (c * 0.5 + x, c), zero.astype(HALF), x.astype(HALF))
    ints = lax.scan(lambda c, x: (c + 1, c), 0, x)
    called = {
        "remat": jax.checkpoint(lambda x: jnp.sin(x) * 2)(x),
        "vjp": doubled(x),
        "gradient": jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2))(x),
    }
    return {
        **scans,
        **counted,
        **loops,
        "vmap": each_stops,
        **branches,
        "nested": inner,
        "half": half,
        "ints": ints,
        **called,
    }


@case(WORDS, X)
def random_numbers(words, x):
    key, r = jax.random.wrap_key_data(words), jax.random
    drawn = {"bits": r.bits(key, (5,)), "raw": r.uniform(words, (3, 4)), "normal": r.normal(r.fold_in(key, 3), (3, 4))}
    many = jax.vmap(lambda k: r.normal(k, (3,)))(r.split(key, 4))
    carried = lax.scan(
        lambda k, _: (r.key_data(r.split(r.wrap_key_data(k))[0]), r.normal(r.wrap_key_data(k), (2,))),
        words,
        None,
        length=3,
    )
    chosen = {
        "categorical": r.categorical(key, x),
        "dropout": jnp.where(r.bernoulli(key, 0.5, x.shape), x, 0),
        "order": r.permutation(key, 10),
    }
    numbers = {
        "randint": r.randint(key, (10,), 0, 100),
        "gumbel": r.gumbel(key, (10,)),
        "cut": r.truncated_normal(key, -2, 2, (10,)),
        "short": r.bits(key, (5,), dtype=jnp.uint16),
    }
    fixed = {
        "fixed": x + r.uniform(r.key(3), x.shape),
        "seed": r.uniform(r.key(words[0].astype(int)), (3,)),
        "half": r.uniform(key, (5,), dtype=HALF),
    }
    return {**drawn, "many": many, "carried": carried, **chosen, **numbers, **fixed, "clone": r.key_data(r.clone(key))}
