"""Rotary positions as newer releases of Flax NNX have them; `conftest.py` leaves this file out where Flax is older."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from fx_core.ops import attention, rope

BF16 = jnp.bfloat16


def draw(shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def close(ours, theirs):
    tolerance = 2e-2 if theirs.dtype == BF16 else 1e-6
    np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), tolerance, tolerance)


@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 6), (2, 2, 4, 8)], ids=str)
@pytest.mark.parametrize("theta", [10000, 100])
@pytest.mark.parametrize("dtype", [jnp.float32, BF16])
def test_rope(shape, theta, dtype):
    """Flax turns arrays of one head, and bfloat16 to float32."""
    x, theirs = draw(shape, dtype=dtype), flax_nnx.RoPE(theta=theta)

    def ours(*positions):
        return rope.rope(x[..., None, :], *positions, theta=theta, dtype=jnp.float32)[..., 0, :]

    close(ours(), theirs(x))
    positions = jnp.array([5, 0, 7, 7])
    close(ours(positions), theirs(x, positions))


@pytest.mark.parametrize("dtype", [jnp.float32, BF16])
def test_attention_with_rope(dtype):
    q, k, v = (draw((2, 4, 3, 6), seed, dtype) for seed in range(3))
    theirs = flax_nnx.dot_product_attention_with_rope(q, k, v, rope=flax_nnx.RoPE())
    turned = (rope.rope(x, dtype=jnp.float32) for x in (q, k))
    close(attention.dot_product_attention(*turned, v), theirs)
