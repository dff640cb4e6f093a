"""Pooling against loops over windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentError
from fx_core.ops import pool


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def windows(x, size, stride, pads):
    """All windows along the one spatial axis of ``(space, features)``, padded with NaN."""
    x = np.pad(x, [pads, (0, 0)], constant_values=np.nan)
    return [x[i : i + size] for i in range(0, len(x) - size + 1, stride)]


CASES = [(2, None, "VALID", (0, 0)), (3, 2, "SAME", (1, 1)), (2, 2, "SAME", (0, 1)), (2, 1, ((1, 0),), (1, 0))]


@pytest.mark.parametrize(("size", "stride", "padding", "pads"), CASES)
def test_one_dimension(size, stride, padding, pads):
    x = draw((5, 2))
    strides = None if stride is None else (stride,)
    parts = windows(x, size, stride or 1, pads)
    arguments = (jnp.asarray(x), (size,), strides, padding)
    np.testing.assert_array_equal(pool.max_pool(*arguments), [np.nanmax(p, axis=0) for p in parts])
    np.testing.assert_array_equal(pool.min_pool(*arguments), [np.nanmin(p, axis=0) for p in parts])
    np.testing.assert_allclose(pool.avg_pool(*arguments), [np.nansum(p, axis=0) / size for p in parts], rtol=1e-5)
    unpadded = pool.avg_pool(*arguments, count_include_pad=False)
    np.testing.assert_allclose(unpadded, [np.nanmean(p, axis=0) for p in parts], rtol=1e-5)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_batch_dimensions(batch):
    x = draw((*batch, 4, 6, 2))
    got = pool.max_pool(jnp.asarray(x), (2, 3), (2, 3))
    np.testing.assert_array_equal(got, x.reshape((*batch, 2, 2, 2, 3, 2)).max((-4, -2)))
    average = pool.avg_pool(jnp.asarray(x), (2, 3), (2, 3), count_include_pad=False)
    np.testing.assert_allclose(average, x.reshape((*batch, 2, 2, 2, 3, 2)).mean((-4, -2)), rtol=1e-5, atol=1e-6)


def test_integers():
    x = jnp.array([[1], [-5], [3]], jnp.int32)
    assert pool.max_pool(x, (2,), padding="SAME")[:, 0].tolist() == [1, 3, 3]
    assert pool.min_pool(x, (2,), padding="SAME")[:, 0].tolist() == [-5, -5, 3]
    assert pool.avg_pool(x, (2,))[:, 0].tolist() == [-2.0, -1.0]


def test_gradient_goes_to_the_winner():
    x = jnp.array([[1.0], [5.0], [2.0]])
    assert jax.grad(lambda v: pool.max_pool(v, (3,)).sum())(x)[:, 0].tolist() == [0.0, 1.0, 0.0]


def test_bfloat16_stays():
    x = jnp.ones((4, 1), jnp.bfloat16)
    assert pool.avg_pool(x, (2,), padding="SAME", count_include_pad=False).dtype == jnp.bfloat16
    assert pool.max_pool(x, (2,)).dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float8_e4m3fn])
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_sums_of_narrow_numbers_do_not_overflow_or_stop(dtype, count_include_pad):
    """The sum is 460,800, past float16, and there are 1200 ones to count, where bfloat16 stops at 256."""
    x = jnp.full((1200, 1), 384.0, dtype)
    arguments = {"padding": ((0, 0),), "count_include_pad": count_include_pad}
    average = pool.avg_pool(x, (1200,), **arguments)
    assert average.dtype == dtype
    assert average[0, 0] == 384
    grad = jax.grad(lambda v: pool.avg_pool(v, (1200,), **arguments).astype(jnp.float32).sum())(x)
    assert grad.dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (((2, 2), None, (1, 1)), r"(?s)padding does not fit the window.*2 pair\(s\).*\(\(1, 1\), \(1, 1\)\)"),
        (((2, 2), None, ((1, 1),)), "padding does not fit"),
        (((2, 2), None, 1), "padding=1"),
        (((2, 2), (2,), "VALID"), r"strides do not fit the window"),
        (((2, 2), 2, "VALID"), "strides=2"),
        (((2, 2, 2, 2), None, "VALID"), r"(?s)too few dimensions for the window.*\(1, 5, 5, 1\)"),
    ],
)
def test_bad_windows(arguments, text):
    with pytest.raises(ArgumentError, match=text):
        pool.max_pool(jnp.ones((1, 5, 5, 1)), *arguments)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int32])
def test_averages_of_integers_do_not_wrap_around(dtype):
    x = jnp.full((4, 1), jnp.iinfo(dtype).max, dtype)
    for mean in (pool.avg_pool(x, (3,)), pool.avg_pool(x, (3,), padding="SAME", count_include_pad=False)):
        assert mean.dtype == jnp.float32
        np.testing.assert_allclose(mean, np.float32(jnp.iinfo(dtype).max))


def test_booleans():
    x = jnp.array([[True], [False], [False]])
    assert pool.max_pool(x, (2,), padding="SAME")[:, 0].tolist() == [True, False, False]
    assert pool.min_pool(~x, (2,), padding="SAME")[:, 0].tolist() == [False, True, True]
    assert pool.max_pool(x, (2,)).dtype == bool
    assert pool.avg_pool(x, (2,))[:, 0].tolist() == [0.5, 0.0]
