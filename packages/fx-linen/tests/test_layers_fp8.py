"""Products in eight bits: rounding, state that gradients replace, training."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentError
from fx_core.ops import lowp

KEY = jax.random.key(0)
STATE = lowp.OVERWRITE_WITH_GRADIENT
OPS = [nn.Fp8DirectDotGeneralOp, nn.Fp8DotGeneralOp, nn.NANOOFp8DotGeneralOp]
DIMS = (((1,), (0,)), ((), ()))


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("kind", OPS)
def test_products_are_close_to_exact_ones(kind):
    x, w = draw(4, 16), draw(16, 3, seed=1)
    op = kind(amax_history_length=4)
    y, variables = op.init_with_output(KEY, x, w, DIMS)
    exact = x @ w
    error = float(jnp.linalg.norm(y - exact) / jnp.linalg.norm(exact))
    assert 0 < error < 0.08
    grads = jax.grad(lambda x, w: op.apply(variables, x, w, DIMS).sum(), argnums=(0, 1))(x, w)
    for got, wanted in zip(grads, jax.grad(lambda x, w: (x @ w).sum(), argnums=(0, 1))(x, w)):
        assert float(jnp.linalg.norm(got - wanted) / jnp.linalg.norm(wanted)) < 0.08


def test_gradients_of_the_state_are_the_next_state():
    x, w = 1000 * draw(4, 16), draw(16, 3, seed=1)
    op = nn.Fp8DotGeneral(amax_history_length=2)
    variables = op.init(KEY, x, w, DIMS)
    loss = lambda variables: 7 * op.apply(variables, x, w, DIMS).sum()  # noqa: E731
    first = jax.grad(loss)(variables)
    assert first[STATE]["input_amax_history"][0] == jnp.abs(x).max()
    assert first[STATE]["output_grad_amax_history"][0] == 7
    assert first[STATE]["input_scale"] == 1
    second = jax.grad(loss)(first)
    np.testing.assert_allclose(second[STATE]["input_scale"], jnp.abs(x).max()[None] / 448, rtol=1e-6)
    # With the scale large inputs are no longer cut off.
    exact = x @ w
    errors = [float(jnp.linalg.norm(op.apply(v, x, w, DIMS) - exact)) for v in (variables, second)]
    assert errors[1] < errors[0] / 3


def test_a_layer_trains():
    layer = nn.Dense(1, dot_general_cls=nn.Fp8DotGeneral)
    x = draw(32, 4)
    y = x @ jnp.array([[1.0], [-2.0], [0.5], [0.0]])
    variables = layer.init(KEY, x)

    @jax.jit
    def step(variables):
        loss, grads = jax.value_and_grad(lambda v: jnp.mean((layer.apply(v, x) - y) ** 2))(variables)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], grads["params"])
        return loss, {"params": params, STATE: grads[STATE]}

    losses = []
    for _ in range(60):
        loss, variables = step(variables)
        losses.append(float(loss))
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_kernel_decides_the_dtype(dtype):
    op = nn.Fp8DotGeneral(amax_history_length=2)
    y, variables = op.init_with_output(KEY, draw(2, 3), draw(3, 4).astype(dtype), DIMS)
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_einsum():
    x, w = draw(2, 3, 4), draw(5, 4, seed=1)
    y, variables = nn.Fp8Einsum(amax_history_length=2).init_with_output(KEY, "abc,dc->abd", x, w)
    np.testing.assert_allclose(y, jnp.einsum("abc,dc->abd", x, w), atol=0.5)
    assert len(variables[STATE]) == 6


def test_a_history_needs_an_entry():
    with pytest.raises(ArgumentError, match=r"largest magnitudes(.|\n)*at least 1(.|\n)*got: 0"):
        nn.Fp8DotGeneral(amax_history_length=0).init(KEY, draw(2, 3), draw(3, 4), DIMS)
