"""What the tables of networks share."""

import jax
import jax.numpy as jnp
import pytest
from fx_core.summary import count_flops

X, W = jax.ShapeDtypeStruct((4, 8), "float32"), jax.ShapeDtypeStruct((8, 8), "float32")
ONE = 2 * 4 * 8 * 8


def scan(x, w, length, unroll=1):
    return jax.lax.scan(lambda c, _: (c @ w, None), x, length=length, unroll=unroll)[0]


@pytest.mark.parametrize("unroll", [1, 2, 3, 4, 7, True])
@pytest.mark.parametrize("length", [1, 5, 6])
def test_steps_of_scans(length, unroll):
    assert count_flops(lambda x, w: scan(x, w, length, unroll), X, W) // ONE == length


@pytest.mark.parametrize(
    ("run", "products"),
    [
        (lambda x, w: jax.lax.scan(lambda c, _: (scan(c, w, 3, 2), None), x, length=4, unroll=3)[0], 12),
        (lambda x, w: jax.jit(scan, static_argnums=2)(jax.checkpoint(lambda x: scan(x, w, 2))(x), w, 3), 5),
        (lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda x: scan(x, w, 2), lambda x: scan(x, w, 9), x), 9),
        (lambda x, w: jax.lax.fori_loop(0, 6, lambda _, c: c @ w, x), 6),
        (lambda x, w: jax.vmap(lambda row: scan(row, w, 5))(x), 5),
        (lambda x, w: jax.value_and_grad(lambda w: scan(x, w, 5).sum())(w), 15),
    ],
)
def test_scans_inside(run, products):
    assert products * ONE <= count_flops(run, X, W) < (products + 1) * ONE


def test_keys_and_integers():
    def run(key, n):
        return jax.random.uniform(key, (4,)) * n, n

    assert count_flops(run, jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)) > 0
