"""Scales of eight-bit numbers, and what is not finite."""

import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.ops.lowp import next_history, next_scale


@pytest.mark.parametrize("size", [10, 5000, 1_000_000])
def test_nan_anywhere_reaches_the_history_and_the_scale_waits_until_it_is_out(size):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(size, np.float32))
    for place in (0, size // 2, size - 1):
        history = next_history(x.at[place].set(jnp.nan), jnp.zeros(4))
        assert jnp.isnan(history[0])
        for _ in range(3):
            history = next_history(jnp.full(3, 448.0), history)
            assert float(next_scale(jnp.full(1, 0.5), history, jnp.float8_e4m3fn)[0]) == 0.5
        history = next_history(jnp.full(3, 448.0), history)
        assert float(next_scale(jnp.full(1, 0.5), history, jnp.float8_e4m3fn)[0]) == 1.0
