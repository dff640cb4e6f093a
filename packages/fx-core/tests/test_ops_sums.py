"""Running sums against those of Python, which are exact."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.ops.sums import add_counts, add_sums, count_as_float, merge_moments, split_count

ZERO = jnp.float32(0)


def test_a_long_sum_keeps_its_digits():
    """Without carrying what rounding lost into the sum itself, the lost part would be rounded away in its turn."""

    @jax.jit
    def run(pair):
        return jax.lax.fori_loop(0, 300_000, lambda _, pair: add_sums(pair, (jnp.float32(0.1), ZERO)), pair)

    start = jnp.float32(2**24), ZERO
    high, low = run(start)
    expected = 2**24 + 300_000 * Fraction(float(np.float32(0.1)))
    assert abs(Fraction(float(high)) + Fraction(float(low)) - expected) < Fraction(1, 100)
    assert abs(float(low)) <= float(np.spacing(np.float32(high))) / 2


@pytest.mark.parametrize(("value", "expected"), [(np.inf, np.inf), (-np.inf, -np.inf), (np.nan, np.nan)])
def test_what_is_not_finite_stays_what_it_is(value, expected):
    pair = add_sums((jnp.float32(1), ZERO), (jnp.float32(value), ZERO))
    np.testing.assert_equal(float(sum(add_sums(pair, (jnp.float32(2), ZERO)))), expected)
    assert math.isinf(float(sum(add_sums((jnp.float32(3e38), ZERO), (jnp.float32(3e38), ZERO)))))


@pytest.mark.parametrize("counts", [(2**31 - 1, 2**31 - 1, 5), (2**30, 2**30, 2**30), (0, 1, 2)])
def test_counts_do_not_overflow(counts):
    total = split_count(0)
    for count in counts:
        total = jax.jit(add_counts)(total, split_count(count))
    assert int(total[0]) + int(total[1]) * 2**30 == sum(counts)
    assert 0 <= int(total[0]) < 2**30
    np.testing.assert_allclose(count_as_float(total), sum(counts), rtol=1e-7)


def test_a_mean_follows_a_long_stream():
    """Ones after as many zeros: in float32 alone the mean would stop on its way to a half."""

    @jax.jit
    def run(mean, squares):
        def step(i, pairs):
            count = jnp.float32(2**24) + i.astype(jnp.float32)
            return merge_moments((count, *pairs), (jnp.float32(1), (jnp.float32(1), ZERO), (ZERO, ZERO)))

        return jax.lax.fori_loop(0, 200_000, step, (mean, squares))

    mean, squares = run((ZERO, ZERO), (ZERO, ZERO))
    count = 2**24 + 200_000
    share = 200_000 / count
    np.testing.assert_allclose(float(mean[0]), share, rtol=1e-5)
    np.testing.assert_allclose(float(squares[0]) / count, share * (1 - share), rtol=1e-5)
