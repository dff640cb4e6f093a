"""Products in eight bits against Flax: state, results and gradients, over several steps."""

import warnings

import flax.linen as flax_nn
import fx_linen as fx_nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

BF16, F16 = jnp.bfloat16, jnp.float16
KEY = jax.random.key(3)
OPS = ["Fp8DirectDotGeneralOp", "Fp8DotGeneral", "Fp8DotGeneralOp", "NANOOFp8DotGeneralOp"]
STATE = "_overwrite_with_gradient"


def draw(shape, seed=0, dtype=np.float32, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), dtype)


def close(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected)):
        assert a.dtype == b.dtype, path
        eps = float(jnp.finfo(a.dtype).eps)
        rtol = 1e-6 if eps < 1e-6 else 2 * eps
        atol = rtol * float(jnp.abs(b).max())
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=atol, err_msg=str(path)
        )


def steps(make, inputs, *first):
    """Three training steps: results, gradients and states of each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flax has one for Fp8DotGeneralOp
        op = make()
        variables = op.init(KEY, *first, *inputs[0])
        seen = [variables]
        for args in inputs:

            def loss(variables, args):
                out = op.apply(variables, *first, *args)
                return jnp.sum(jnp.sin(3 * out.astype(jnp.float32))), out

            grads, out = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables, args)
            seen.append((out, grads))
            variables = {**variables, STATE: grads[0][STATE]}
        return seen


def both(make, inputs, *first):
    close(steps(lambda: make(fx_nn), inputs, *first), steps(lambda: make(flax_nn), inputs, *first))


DIMS = [
    ((2, 3), (3, 4), (((1,), (0,)), ((), ()))),
    ((2, 5, 3), (3, 4), (((2,), (0,)), ((), ()))),
    ((2, 5, 3), (3, 5, 4), (((1, 2), (1, 0)), ((), ()))),
    ((2, 5, 3), (3, 5, 4), (((2, 1), (0, 1)), ((), ()))),
    ((2, 5, 3), (2, 3, 4), (((2,), (1,)), ((0,), (0,)))),
    ((5, 2, 3), (3, 2, 4), (((2,), (0,)), ((1,), (1,)))),
]


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize(("left", "right", "dims"), DIMS)
def test_dot_general(name, left, right, dims):
    inputs = [(draw(left, i, scale=10.0**i), draw(right, 9 + i)) for i in range(3)]

    def make(nn):
        class Dot(nn.Module):
            @nn.compact
            def __call__(self, lhs, rhs):
                return getattr(nn, name)(amax_history_length=2)(lhs, rhs, dims)

        return Dot()

    both(make, inputs)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtypes", [(BF16, BF16), (BF16, np.float32), (F16, BF16)])
def test_dtypes(name, dtypes):
    inputs = [(draw((4, 8), i, dtypes[0]), draw((8, 2), 9 + i, dtypes[1])) for i in range(3)]
    dims = (((1,), (0,)), ((), ()))

    def make(nn):
        class Dot(nn.Module):
            @nn.compact
            def __call__(self, lhs, rhs):
                return getattr(nn, name)(amax_history_length=3)(
                    lhs, rhs, dims, precision="highest", preferred_element_type=jnp.float32
                )

        return Dot()

    both(make, inputs)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("length", [1, 1024])
def test_dense(name, length):
    def make(nn):
        def cls(**kwargs):
            return getattr(nn, name)(amax_history_length=length, name="fp8")

        return nn.Dense(4, dot_general_cls=cls, bias_init=nn.initializers.ones)

    both(make, [(draw((3, 5), i, scale=100.0),) for i in range(3)])


@pytest.mark.parametrize("dtype", [None, BF16])
def test_layers_name_it_alike(dtype):
    def make(nn):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = nn.Dense(6, dot_general_cls=nn.Fp8DotGeneral, dtype=dtype)(x)
                return nn.DenseGeneral((2, 3), dot_general_cls=nn.Fp8DirectDotGeneralOp, dtype=dtype)(nn.relu(x))

        return Net()

    both(make, [(draw((3, 5), i),) for i in range(2)])


@pytest.mark.parametrize(
    ("equation", "left", "right"),
    [
        ("ab,bc->ac", (2, 3), (3, 4)),
        ("ab,bc->ca", (2, 3), (3, 4)),
        ("abc,cd->abd", (2, 3, 4), (4, 5)),
        ("abc,dc->dab", (2, 3, 4), (5, 4)),
        ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
        ("...c,cd->...d", (2, 3, 4), (4, 5)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, BF16])
def test_einsum(equation, left, right, dtype):
    inputs = [(draw(left, i, dtype), draw(right, 9 + i, dtype)) for i in range(3)]
    both(lambda nn: nn.Fp8Einsum(amax_history_length=3), inputs, equation)


def test_einsum_preferred():
    inputs = (draw((2, 3), 0, BF16), draw((3, 4), 1, BF16))
    results = []
    for nn in (fx_nn, flax_nn):
        op = nn.Fp8Einsum(amax_history_length=3)
        variables = op.init(KEY, "ab,bc->ac", *inputs)
        results.append(op.apply(variables, "ab,bc->ac", *inputs, preferred_element_type=jnp.float32))
    close(*results)


X = draw((3, 8), scale=400.0)
ONE = jnp.full((1,), 2.0)
FUNCTIONS = {
    "get_fp8_max": lambda ops: ops.get_fp8_max(jnp.float8_e5m2, BF16),
    "quantize": lambda ops: ops.quantize(X, jnp.float8_e4m3fn, ONE, jnp.float32),
    "quantize_half": lambda ops: ops.quantize(X.astype(BF16), jnp.float8_e5m2, jnp.float32(3), BF16),
    "dequantize": lambda ops: ops.dequantize((X / 8).astype(jnp.float8_e4m3fn), BF16, ONE),
    "qdq": lambda ops: ops.qdq(X, jnp.float8_e5m2, ONE, jnp.float32),
    "compute_scale": lambda ops: [
        ops.compute_scale(amax, ONE, 448.0, margin)
        for amax in (jnp.float32(7), jnp.float32(0), jnp.float32(jnp.inf))
        for margin in (0, 2)
    ],
    "compute_amax_history": lambda ops: ops.compute_amax_history(X, jnp.arange(4.0)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_fp8_ops(name):
    ours, theirs = (jax.tree.map(jnp.float32, FUNCTIONS[name](nn.fp8_ops)) for nn in (fx_nn, flax_nn))
    close(ours, theirs)
    assert [x.dtype for x in jax.tree.leaves(FUNCTIONS[name](fx_nn.fp8_ops))] == [
        x.dtype for x in jax.tree.leaves(FUNCTIONS[name](flax_nn.fp8_ops))
    ]
