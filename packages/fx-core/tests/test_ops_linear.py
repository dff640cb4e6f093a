"""Linear maps and embeddings against plain NumPy, and what happens with wrong arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import (
    ArgumentError,
    DtypeError,
    ShapeMismatchError,
)
from fx_core.ops import dropout as drop
from fx_core.ops import dtypes, embed, linear
from hypothesis import given, settings
from hypothesis import strategies as st


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3), (0, 3)])
def test_dense_is_a_matrix_product(shape):
    x, kernel, bias = draw(shape), draw((3, 5), 1), draw((5,), 2)
    y = linear.dense(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias))
    np.testing.assert_allclose(y, x @ kernel + bias.reshape((1,) * (x.ndim - 1) + (5,)), rtol=1e-5, atol=1e-6)


def test_dense_hands_options_to_the_replacement():
    seen = {}

    def fake(lhs, rhs, dims, precision=None, **options):
        seen.update(options, precision=precision, dims=dims)
        return jax.lax.dot_general(lhs, rhs, dims)

    x = jnp.ones((2, 3))
    linear.dense(x, jnp.ones((3, 4)), precision="highest", dot_general=fake, preferred_element_type=jnp.float32)
    assert seen == {
        "precision": "highest",
        "preferred_element_type": jnp.float32,
        "dims": (((1,), (0,)), ((), ())),
    }


def test_dense_accumulates_in_the_preferred_type():
    x, kernel = jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16)
    assert linear.dense(x, kernel, preferred_element_type=jnp.float32).dtype == jnp.float32


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_dense_general_equals_einsum(data):
    ndim = data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.integers(1, 3)) for _ in range(ndim))
    batch = data.draw(st.integers(0, ndim - 1))
    axis = data.draw(st.permutations(range(batch, ndim)).map(lambda p: tuple(p)))[: data.draw(st.integers(1, 2))]
    features = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    plan = linear.plan_dense_general(ndim, features, [a - ndim for a in axis], tuple(range(batch)))
    specs = linear.dense_general_params(shape[:batch], [shape[a] for a in sorted(axis)], features)
    x, kernel, bias = draw(shape), draw(specs["kernel"].shape, 1), draw(specs["bias"].shape, 2)
    letters, new = "abcd"[:ndim], "xy"[: len(features)]
    free = [letters[i] for i in range(batch, ndim) if i not in axis]
    head, inner = letters[:batch], "".join(letters[a] for a in sorted(axis))
    equation = f"{letters},{head}{inner}{new}->{head}{''.join(free)}{new}"
    expected = np.einsum(equation, x, kernel) + bias.reshape(shape[:batch] + (1,) * len(free) + features)
    got = linear.dense_general(plan, jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_plans_are_shared():
    assert linear.plan_dense_general(3, 4, [1, -1]) is linear.plan_dense_general(3, (4,), (1, -1))
    assert linear.plan_einsum("ab,bc->ac", 2, 2) is linear.plan_einsum("ab,bc->ac", 2, 2)


def test_general_initializers_see_matrices():
    seen = []

    def init(key, shape, dtype):
        seen.append(shape)
        return jnp.zeros(shape, dtype)

    specs = linear.dense_general_params((2,), (3, 5), (3, 2), True, init, init)
    key = jax.random.key(0)
    assert specs["kernel"].init(key, specs["kernel"].shape, jnp.float32).shape == (2, 3, 5, 3, 2)
    assert specs["bias"].init(key, specs["bias"].shape, jnp.float32).shape == (2, 3, 2)
    assert seen == [(30, 6), (12,)]
    assert specs["kernel"].axes == ("batch", "in", "in", "out", "out")


@pytest.mark.parametrize(
    ("equation", "x_shape", "kernel_shape", "bias_shape", "bias_broadcast"),
    [
        ("abc,cd->abd", (2, 3, 4), (4, 5), (5,), (1, 1, 5)),
        ("abc,cde->abed", (2, 3, 4), (4, 5, 6), (6, 5), (1, 1, 6, 5)),
        ("abc,bcd->abd", (2, 3, 4), (3, 4, 5), (3, 5), (1, 3, 5)),
        ("...c,cd->...d", (2, 3, 4), (4, 5), (5,), (1, 1, 5)),
        ("abc,...cd->...abd", (2, 3, 4), (7, 4, 5), (7, 5), (7, 1, 1, 5)),
        (" ab , bc -> ca ", (2, 3), (3, 4), (4,), (4, 1)),
    ],
)
def test_einsum_and_its_bias(equation, x_shape, kernel_shape, bias_shape, bias_broadcast):
    plan = linear.plan_einsum(equation, len(x_shape), len(kernel_shape))
    assert tuple(kernel_shape[i] for i in plan.bias_dims) == bias_shape
    x, kernel, bias = draw(x_shape), draw(kernel_shape, 1), draw(bias_shape, 2)
    got = linear.einsum(plan, jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias))
    expected = np.einsum(equation.replace(" ", ""), x, kernel) + bias.reshape(bias_broadcast)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        ("ab,bc", "does not say what the result is"),
        ("ab->ba", r"has 1 operand\(s\) instead of two"),
        ("ab,bc,cd->ad", r"has 3 operand\(s\)"),
        ("abc,cd->abd", "names 3 dimensions of an operand that has 2"),
        ("......b,bc->c", "two ellipses"),
    ],
)
def test_bad_equations(equation, text):
    with pytest.raises(ArgumentError, match=text) as info:
        linear.plan_einsum(equation, 2, 2)
    assert "abc,cd->abd" in str(info.value)
    assert isinstance(info.value, ValueError)


def test_missing_equation():
    with pytest.raises(ArgumentError, match="is missing"):
        linear.check_einsum(None)


def test_bad_axes():
    with pytest.raises(ShapeMismatchError, match="axis does not fit an array of 2 dimensions"):
        linear.plan_dense_general(2, 3, axis=2)
    with pytest.raises(ShapeMismatchError, match="distinct axes between -2 and 1"):
        linear.plan_dense_general(2, 3, axis=(1, -1))
    with pytest.raises(ShapeMismatchError, match="overlaps batch_dims"):
        linear.plan_dense_general(2, 3, axis=0, batch_dims=(0,))
    with pytest.raises(ArgumentError, match="consecutive leading dimensions, starting from 0"):
        linear.plan_dense_general(3, 3, batch_dims=(1,))


def test_lookup_and_attend():
    table = draw((5, 3))
    ids = np.array([[0, 4], [2, 2]])
    np.testing.assert_array_equal(embed.lookup(jnp.asarray(table), jnp.asarray(ids)), table[ids])
    assert np.isnan(embed.lookup(jnp.asarray(table), jnp.array([5]))).all()
    np.testing.assert_array_equal(
        embed.lookup(jnp.asarray(table[:1]), jnp.array([0, 7])), np.broadcast_to(table[:1], (2, 3))
    )
    query = draw((2, 4, 3), 1)
    np.testing.assert_allclose(
        embed.attend(jnp.asarray(query), jnp.asarray(table)), query @ table.T, rtol=1e-5, atol=1e-6
    )


def test_lookup_wants_integers():
    with pytest.raises(DtypeError, match=r"(?s)looked up by integers.*float32.*attend"):
        embed.lookup(jnp.ones((2, 2)), jnp.ones(1))


@pytest.mark.parametrize(
    ("arrays", "dtype", "expected"),
    [
        ((jnp.int32, None), None, jnp.float32),
        ((jnp.bfloat16, jnp.float32), None, jnp.float32),
        ((jnp.bfloat16, jnp.bfloat16), None, jnp.bfloat16),
        ((jnp.float32, jnp.float32), jnp.bfloat16, jnp.bfloat16),
        ((jnp.float32, jnp.float32), "float16", jnp.float16),
        ((jnp.complex64, jnp.float32), None, jnp.complex64),
    ],
)
def test_promotion(arrays, dtype, expected):
    args = [None if a is None else jnp.ones(2, a) for a in arrays]
    out = dtypes.promote_dtype(*args, dtype=dtype)
    assert [None if a is None else a.dtype for a in out] == [None if a is None else expected for a in args]


def test_promotion_removes_weak_types_and_converts_numpy():
    weak, plain = dtypes.promote_dtype(jnp.asarray(2.0), np.ones(2, np.float32), dtype=jnp.float32)
    assert not weak.weak_type
    assert isinstance(plain, jax.Array)


def test_promotion_keeps_integers_if_asked():
    assert dtypes.promote_dtype(jnp.ones(2, jnp.int8), inexact=False)[0].dtype == jnp.int8


def test_integer_dtype_is_refused():
    with pytest.raises(DtypeError, match=r"(?s)must be inexact.*int32") as info:
        dtypes.promote_dtype(jnp.ones(2), dtype=jnp.int32)
    assert isinstance(info.value, ArgumentError)
    with pytest.raises(DtypeError, match="must be inexact"):
        dtypes.promote_dtype(jnp.ones(2, jnp.int32), dtype=jnp.int32)


@pytest.mark.parametrize(
    ("equation", "x", "bias", "text"),
    [
        ("ab,bc->ac", (2, 4), None, r"3 in axis 1, as the kernel of shape \(3, 5\)\n  got: shape \(2, 4\)"),
        ("ab,bc->ac", (2, 3), (4,), r"expected: \(5,\)\n  got: \(4,\)"),
        ("...b,bc->...c", (2, 2, 4), None, r"3 in axis 2.*\n  got: shape \(2, 2, 4\)"),
    ],
)
def test_einsum_of_wrong_sizes(equation, x, bias, text):
    plan = linear.plan_einsum(equation, len(x), 2)
    with pytest.raises(ShapeMismatchError, match=text):
        linear.einsum(plan, jnp.ones(x), jnp.ones((3, 5)), None if bias is None else jnp.ones(bias))


def test_dense_general_of_wrong_sizes():
    plan = linear.plan_dense_general(3, 5, axis=(1, 2))
    with pytest.raises(ShapeMismatchError, match=r"sizes \(3, 4\) in the axes \(1, 2\).*\n  got: shape \(2, 4, 3\)"):
        linear.dense_general(plan, jnp.ones((2, 4, 3)), jnp.ones((3, 4, 5)))


def test_dropout_over_axes_that_are_not_there():
    with pytest.raises(ShapeMismatchError, match="broadcast_dims does not fit an array of 2 dimensions"):
        drop.dropout(jnp.ones((2, 3)), 0.5, jax.random.key(0), broadcast_dims=(2,))
