"""The functions of `fx_core.ops` against Flax's: pooling, activations, initializers, dtype promotion."""

import flax.linen as flax_nn
import fx_linen as fx_nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen import dtypes as flax_dtypes
from flax.linen import initializers as flax_initializers
from flax.linen import pooling as flax_pooling
from fx_core.ops import dtypes, initializers, pool


def draw(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * 3, dtype)


def same(a, b):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


POOLS = [
    ((2, 6, 7, 3), (2, 2), None, "VALID"),
    ((2, 6, 7, 3), (3, 2), (2, 1), "SAME"),
    ((2, 6, 7, 3), (3, 3), (1, 2), ((1, 0), (2, 1))),
    ((6, 7, 3), (2, 2), (2, 2), "SAME"),
    ((2, 2, 6, 3), (3,), (2,), "SAME"),
    ((2, 4, 4, 4, 2), (2, 2, 2), None, "VALID"),
    ((5, 1), (5,), None, ((2, 2),)),
]


@pytest.mark.parametrize(("shape", "window", "strides", "padding"), POOLS)
@pytest.mark.parametrize("name", ["max_pool", "min_pool", "avg_pool", "avg_pool_unpadded"])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_pooling(shape, window, strides, padding, name, dtype):
    options = {"strides": strides, "padding": padding}
    if name == "avg_pool_unpadded":
        name, options = "avg_pool", {**options, "count_include_pad": False}
    x = draw(shape, dtype=dtype)
    got = getattr(pool, name)(x, window, **options)
    # Averages of narrow numbers are sums in float32 here.
    expected = getattr(flax_pooling, name)(x.astype(np.float32) if name == "avg_pool" else x, window, **options)
    assert got.shape == expected.shape
    assert got.dtype == x.dtype  # Flax averages bfloat16 without padding in float32 and returns that
    tolerance = {"rtol": 1e-6} if dtype == np.float32 else {"rtol": 1e-2}
    np.testing.assert_allclose(np.asarray(got, np.float32), np.asarray(expected, np.float32), **tolerance)


ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "normalize",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softmax",
    "softplus",
    "standardize",
    "swish",
    "tanh",
]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_activations(name, dtype):
    x = draw((4, 6), dtype=dtype)
    same(getattr(fx_nn, name)(x), getattr(flax_nn, name)(x))


WHERE = np.random.default_rng(2).random((4, 6)) > 0.3
ACTIVATION_OPTIONS = [
    ("celu", {"alpha": 0.5}),
    ("elu", {"alpha": 0.5}),
    ("gelu", {"approximate": False}),
    ("glu", {"axis": 0}),
    ("leaky_relu", {"negative_slope": 0.3}),
    *[(name, {"axis": axis}) for name in ["softmax", "log_softmax"] for axis in [0, (0, 1)]],
    *[(name, {"where": WHERE}) for name in ["softmax", "log_softmax"]],
    ("logsumexp", {"axis": 0, "keepdims": True}),
    *[(name, {"axis": 0, "epsilon": 0.1, "mean": 0.5, "variance": 2.0}) for name in ["normalize", "standardize"]],
    ("standardize", {"where": WHERE}),
]


@pytest.mark.parametrize(("name", "options"), ACTIVATION_OPTIONS)
def test_activation_options(name, options):
    x = draw((4, 6))
    same(getattr(fx_nn, name)(x, **options), getattr(flax_nn, name)(x, **options))


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (0, 2))])
def test_pool(padding):
    x = draw((2, 5, 6, 3))
    args = 0.0, jax.lax.add, (2, 3), (1, 2), padding
    same(fx_nn.pool(x, *args), flax_nn.pool(x, *args))


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize("dtype", [None, jnp.int8])
def test_one_hot(axis, dtype):
    ids = jnp.array([[0, 2], [5, -1]])
    same(fx_nn.one_hot(ids, 4, axis=axis, dtype=dtype), flax_nn.one_hot(ids, 4, axis=axis, dtype=dtype))


FACTORIES = {
    "constant": (0.5,),
    "normal": (0.3,),
    "truncated_normal": (0.3,),
    "uniform": (0.3,),
    "variance_scaling": (2.0, "fan_avg", "uniform"),
    **dict.fromkeys(
        [
            "glorot_normal",
            "glorot_uniform",
            "he_normal",
            "he_uniform",
            "kaiming_normal",
            "kaiming_uniform",
            "lecun_normal",
            "lecun_uniform",
            "ones_init",
            "orthogonal",
            "xavier_normal",
            "xavier_uniform",
            "zeros_init",
            "delta_orthogonal",
        ],
        (),
    ),
}


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_initializers(name, dtype):
    if name in ("orthogonal", "delta_orthogonal") and dtype == jnp.bfloat16:
        dtype = jnp.complex64  # QR has no bfloat16
    key = jax.random.key(11)
    ours, theirs = (getattr(m, name)(*FACTORIES[name]) for m in (initializers, flax_initializers))
    same(ours(key, (3, 4, 6), dtype), theirs(key, (3, 4, 6), dtype))


KINDS = [jnp.int32, jnp.bool_, jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64, None, 2, 2.0]


def example(kind):
    return kind if kind is None or isinstance(kind, int | float) else jnp.ones(3, kind)


@pytest.mark.parametrize("second", KINDS, ids=str)
@pytest.mark.parametrize("first", KINDS[:6], ids=str)
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16, jnp.float32, jnp.complex64], ids=str)
@pytest.mark.parametrize("inexact", [True, False])
@pytest.mark.filterwarnings("ignore:.*[Cc]omplex.*")
def test_promotion(first, second, dtype, inexact):
    args = example(first), example(second)
    got = dtypes.promote_dtype(*args, dtype=dtype, inexact=inexact)
    expected = flax_dtypes.promote_dtype(*args, dtype=dtype, inexact=inexact)
    describe = lambda a: a if a is None else (a.shape, a.dtype, a.weak_type)  # noqa: E731
    assert [describe(a) for a in got] == [describe(a) for a in expected]
    ours = dtypes.canonicalize_dtype(*args, dtype=dtype, inexact=inexact)
    assert jnp.dtype(ours) == jnp.dtype(flax_dtypes.canonicalize_dtype(*args, dtype=dtype, inexact=inexact))
