"""Programs about corners: numbers that do not fit, places outside, division by zero, functions instead of operators."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import logsumexp, softmax
from onnx_cases import HALF, IMAGES, KERNEL, X, case, conv


def _bits_of(x):
    words = {np.dtype(d).name: lax.bitcast_convert_type(x.astype(d), w) for d, w in _WORDS.items()}
    signs = {"sign": jnp.signbit(x), "copied": jnp.copysign(2.0, x), "next": jnp.nextafter(x, jnp.float32(1))}
    return {**words, **signs, "ldexp": jnp.ldexp(x, 3)}


_WORDS = {np.float32: jnp.int32, np.float16: jnp.uint16, HALF: jnp.uint16}
_ODD = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, 3.4e38, -1.2e-38, 6e-8, 65504.0, 2.0**23 + 1, 0.99999994, 1 / 3]


@case(np.array(_ODD, np.float32))
def bits_of_floats_by_arithmetic(x):
    return _bits_of(x)


@case(np.array([*_ODD, np.nan, 2.0**31, -(2.0**31), 2.0**32, 1e30, -1e30, 300.7, -300.7], np.float32))
def casts_of_what_does_not_fit(x):
    kinds = (jnp.int8, jnp.uint8, jnp.int16, jnp.uint16, jnp.int32, jnp.uint32)
    return {f"{n} {np.dtype(f).name}": x.astype(f).astype(d) for n, d in enumerate(kinds) for f in (np.float32, HALF)}


@case(np.array([7, -7, -128, 127, 0, 5, -128], np.int8), np.array([2, -2, -1, 0, 0, 3, 1], np.int8))
def division_by_anything(x, y):
    wide, unsigned = x.astype(jnp.int32) * 2**24, x.astype(jnp.uint8)
    pairs = {"int8": (x, y), "int32": (wide, y.astype(jnp.int32)), "uint8": (unsigned, y.astype(jnp.uint8))}
    plain = {f"{fn.__name__} {n}": fn(*pair) for n, pair in pairs.items() for fn in (lax.div, lax.rem)}
    return {**plain, "gcd": jnp.gcd(x, y), "constant": lax.div(x, jnp.full_like(x, -1))}


@case(np.array([[5, 7, 2**30 - 1, 715827882, -1], [65536, 65536, 3, 1, 1], [-3, 70000, 70000, 1, -(2**31)]], np.int32))
def products_that_wrap_around(x):
    return {d: jnp.prod(x.astype(d), 1, dtype=d) for d in ("int8", "uint16", "int32", "uint32")}


@case(np.array([[2**31 - 1, 2**31 - 1, 3], [-(2**31), -1, -5], [7, 7, 7]], np.int32))
def sums_that_wrap_around(x):
    names = ("int8", "uint8", "int16", "uint16", "int32", "uint32")
    kinds = {f"{d} {axes}": jnp.sum(x.astype(d), axes, dtype=d) for d in names for axes in ((0,), (1,), (0, 1))}
    return {**kinds, "often": jnp.broadcast_to(x[:, :1], x.shape).sum(1), "counts": (x > 0).sum(0)}


@case(np.array([0.49999997, -0.49999997, 8388609.0, 0.5, -0.5, 1.5, -0.0, np.inf, np.nan], np.float32))
def rounding_away_from_zero(x):
    return {"round": lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO)}


@case(np.array([[12, 10, 7], [-1, 3, 1]], np.int32))
def reductions_of_bits(x):
    starts = {lax.bitwise_and: -1, lax.bitwise_or: 0, lax.bitwise_xor: 0}
    bits = {f"{fn.__name__} {d}": lax.reduce(x.astype(d), np.array(start).astype(d), fn, (1,))
            for fn, start in starts.items() for d in ("int32", "uint8")}  # fmt: skip
    return {**bits, "zeros": lax.clz(x), "few": lax.clz(x.astype(jnp.int8))}


@case(np.array([[1, np.nan, 2], [np.nan, np.nan, np.nan], [-np.inf, -np.inf, -np.inf], [3, np.inf, 1]], np.float32))
def extremes_with_unknowns(x):
    kinds = {f"{fn.__name__} {d}": fn(x.astype(d), 1) for fn in (jnp.max, jnp.min) for d in (np.float32, HALF)}
    return {**kinds, "all": jnp.max(x), "known": jnp.nanmin(x, 0), "sum": logsumexp(x, 0), "shares": softmax(x)}


@case(np.array([-9, -2, -0.6, -0.1, 0, 0.5, 0.6, 2, 4, 6, 9, 30, np.inf, -np.inf, np.nan], np.float32))
def small_complements_of_the_error_function(x):
    return {"log": jnp.log(lax.erfc(x)), "narrow": lax.erfc(x.astype(HALF)), "below": -jnp.log(lax.erfc(-x))}


@case(np.array([True, False, True]), np.array([2, 0, 0, 7, -1], np.int32), np.array([False, True, True, True, True]))
def scattered_bools(x, places, values):
    return {n: getattr(x.at[places], n)(values, mode="drop") for n in ("min", "max")}


@case(X[:, :1], np.zeros((2, 0), np.int32), np.array([[-1], [4]], np.int32))
def windows_of_axes_without_a_place(x, none, rows):
    numbers = lambda hidden, axes: lax.GatherDimensionNumbers((1,), hidden, axes)  # noqa: E731
    into = lambda hidden, axes: lax.ScatterDimensionNumbers((1,), hidden, axes)  # noqa: E731
    taken = {"none": lax.gather(x, none, numbers((0, 1), ()), (1, 1, 3))}
    taken["one"] = lax.gather(x, rows, numbers((0, 1), (0,)), (1, 1, 5), mode="fill")
    taken["written"] = lax.scatter_add(x, rows, x[:2, 0, :4], into((0, 1), (0,)), mode="clip")
    taken["first"] = lax.scatter_add(x, none, x[:2, 0, :4], into((0, 1), ()))
    taken["scalar"] = lax.gather(x[0, 0, 0], none, lax.GatherDimensionNumbers((), (), ()), ())
    return taken


@case(X)
def reductions_by_functions(x):
    start = np.float32(1)
    both = lambda a, b: (a[0] + b[0], a[1] * b[1])  # noqa: E731
    window = lambda fn, at: lax.reduce_window(x, np.float32(at), fn, (1, 2, 3), (1, 1, 2), "SAME")  # noqa: E731
    wide = lambda fn, at: lax.reduce_window(x, np.float32(at), fn, (2, 2, 2), (1, 2, 1), "SAME")  # noqa: E731
    windows = {"product": window(lax.mul, 1), "from two": window(lax.add, 2), "from zero": window(lax.max, 0)}
    wider = {"three": wide(lax.max, -np.inf), "sum": wide(lax.add, 0)}
    return {"two": lax.reduce((x, x), (start, start), both, (0, 2)), **windows, **wider}


@case(np.full((1, 6, 6), -np.inf, np.float32))
def windows_of_negative_infinity(x):
    least = lambda size, **more: lax.reduce_window(x, -np.inf, lax.max, size, (1, 1, 1), "VALID", **more)  # noqa: E731
    return {"one": least((1, 1, 2)), "two": least((1, 2, 2)), "gaps": least((1, 2, 2), window_dilation=(1, 2, 1))}


_UNKNOWN = np.where(np.arange(60) % 7 == 3, np.nan, np.where(np.arange(60) % 5 == 1, -np.inf, X.ravel()))


@case(_UNKNOWN.reshape(X.shape).astype(np.float32))
def windows_with_unknowns(x):
    def pooled(dtype, size, **more):
        pair = ((np.array(-np.inf, dtype), lax.max), (np.array(np.inf, dtype), lax.min))
        given = {"padding": "SAME", **more}
        return [lax.reduce_window(x.astype(dtype), start, fn, size, (1, 2, 1), **given) for start, fn in pair]

    sizes = {"one": (1, 1, 2), "two": (1, 2, 2), "three": (2, 3, 2)}
    kinds = {f"{n} {np.dtype(d).name}": pooled(d, s) for n, s in sizes.items() for d in (np.float32, HALF)}
    # Windows with gaps that lie beside everything.
    gaps = pooled(np.float32, (1, 2, 1), window_dilation=(1, 5, 1), padding=((0, 0), (1, 5), (0, 0)))
    return {**kinds, "gaps": gaps}


@case(X, np.array([0, 2, -1, 5, 1, -7], np.int32))
def places_outside_by_default(x, at):
    row = {"rows": x[at], "row": x[at[3]], "before": x[at[5]], "several": x[:, at, at]}
    return {**row, "promised": x.at[at].get(mode="promise_in_bounds"), "set": x.at[at].add(1.0)}


@case(X)
def one_value_in_several_outputs(x):
    half = x[0].astype(HALF)
    product = lax.dot(half, half.T, preferred_element_type=jnp.float32)
    return {"first": product, "second": half @ half.T, "third": product, "fourth": product.astype(jnp.float16)}


@case(X)
def nothing_to_do(x):
    rows = lax.scan(lambda c, row: (c + row, c * 2), x[0], x[:0])
    return {"power": x**0, "scan": rows, "none": jnp.concatenate([x[:0], x]).sum(0)}


@case((np.arange(40) / 3 - 6).astype(np.float32))
def constants_of_narrow_floats(x):
    wide = {"cbrt": jnp.cbrt(x.astype(HALF) * 1e20), "log2": jnp.log2(jnp.abs(x).astype(np.float16))}
    return {**wide, "erfc": lax.erfc(x.astype(np.float16)), "exp2": jnp.exp2(x)}


@case(IMAGES, KERNEL[:, :, :2])
def gradients_of_grouped_convolutions(x, k):
    loss = lambda x, k: jnp.sum(jnp.sin(conv(x, k, (2, 1), feature_group_count=2)))  # noqa: E731
    turned = lax.reshape(x, (4, 9, 16), (3, 1, 0, 2))
    return {"gradients": jax.grad(loss, (0, 1))(x, k), "turned": turned}


_TIES = np.array([[1, np.nan, 2, -np.inf, np.inf, -0.0, 0.0], [-0.0, 0, -0.0, 0, np.nan, 0, -1]], np.float32)
_TIES[1, 4] = np.copysign(np.nan, -1)


def _tops(x):
    kinds = {f"{n} {np.dtype(d).name}": lax.top_k(x.astype(d), n) for n in (1, 4, 7) for d in (np.float32, HALF)}
    return {**kinds, "approximate": lax.approx_max_k(x, 4), "single": lax.top_k(x.astype(jnp.float16), 4)}


@case(np.where(np.signbit(_TIES) & np.isnan(_TIES), np.float32(np.nan), _TIES))
def top_elements_among_zeros_and_unknowns(x):
    return _tops(x)


@case(_TIES, opset=26)
def top_elements_among_unknowns_with_signs(x):
    return _tops(x)


@case(X, np.array([1, -1, 1, 9], np.int32))
def functions_of_elements_at_places(x, at):
    add = {n: getattr(x.astype(jnp.float16).at[at], n)(x[:1].astype(jnp.float16)) for n in ("add", "min", "multiply")}
    return {"often": x.at[at].apply(lambda v: v * 2 + 1), "part": x.at[at, :2].apply(jnp.sin), **add}


@case(np.zeros((0, 3), np.float32))
def nothing_in_arrays(x):
    sums = {"sum": x.sum(0), "mean": x.mean(0), "any": (x > 0).any(0), "all": (x > 0).all(), "row": x.max(1)}
    rows = {"order": lax.cumprod(x), "back": lax.cummax(x, 0, reverse=True), "top": lax.top_k(x, 2)}
    pooled = lax.reduce_window(x, -np.inf, lax.max, (1, 2), (1, 1), "SAME")
    sums |= {d: x.astype(d).sum(0, dtype=d) for d in ("int8", "uint32", "int32")}
    return {**sums, **rows, "least": x.min(0, initial=3), "pooled": pooled, "product": x.T @ x, "padded": jnp.pad(x, 1)}


@case(np.array([100, -100, 3], np.int8), np.array([100, 2, -128], np.int8))
def products_of_8_bits_that_are_not_summed(x, y):
    """They are exact in 32 bits, as those of a contraction are."""
    outer, by_row = (((), ()), ((), ())), (((), ()), ((0,), (0,)))
    pairs = {"int8": (x, y), "uint8": (x.astype(jnp.uint8), y.astype(jnp.uint8))}
    kinds = {"outer": outer, "by row": by_row}
    return {f"{n} {k}": lax.dot_general(*pair, axes, preferred_element_type=np.int32).astype(jnp.float32)
            for n, pair in pairs.items() for k, axes in kinds.items()}  # fmt: skip


@case(np.array([[120, -128, 127, 5, -1, 77]], np.int8), np.array([[100, -128, 127]], np.int8))
def convolutions_of_8_bits_that_wrap_around(x, kernel):
    def conv(dtype, result=None, **more):
        image, weights = x.astype(dtype)[:, None], kernel.astype(dtype)[:, None]
        return lax.conv_general_dilated(image, weights, (1,), "SAME", preferred_element_type=result, **more)

    kinds = {f"{d} {r}": conv(f"{d}8", r and f"{d}{r}") for d in ("int", "uint") for r in (None, 16, 32)}
    return {**kinds, "gaps": lax.conv_general_dilated(x[:, None], kernel[:, None], (1,), [(1, 1)], lhs_dilation=(2,))}


@case(X.astype(HALF))
def values_of_16_bits_that_are_repeated(x):
    wide = jnp.broadcast_to(x[0, :, :, None], (4, 5, 3))
    return {"repeat": jnp.repeat(x, 2, axis=0), "tile": jnp.tile(x, (2, 1, 1)), "flat": wide.reshape(-1)}


@case(X)
def products_of_16_bits_along_a_moved_axis(x):
    """ONNX Runtime does not survive a cast between such a transpose and a product."""
    kernel, narrow = jnp.ones((3, 2)), (HALF, jnp.float16)
    first = {f"first {np.dtype(d).name}": jnp.tensordot(x.astype(d), kernel.astype(d), ((0,), (0,))) for d in narrow}
    return {**first, "middle": jnp.einsum("abc,db->acd", x.astype(HALF), x[0, :, :4].astype(HALF))}
