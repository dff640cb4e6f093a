"""Normalizations against plain NumPy, on one device and over a mapped axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import (
    ArgumentError,
    ShapeMismatchError,
)
from fx_core.ops import norm
from hypothesis import given, settings
from hypothesis import strategies as st


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def reference(x, axes, features, scale, bias, epsilon=1e-6, where=True):
    mean = x.mean(axes, keepdims=True, where=where)
    var = ((x - mean) ** 2).mean(axes, keepdims=True, where=where)
    shape = [n if i in features else 1 for i, n in enumerate(x.shape)]
    return (x - mean) / np.sqrt(var + epsilon) * scale.reshape(shape) + bias.reshape(shape)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_layer_norm_over_any_axes(data):
    ndim = data.draw(st.integers(1, 3))
    x = draw(tuple(data.draw(st.integers(2, 4)) for _ in range(ndim)))
    some = st.sets(st.integers(0, ndim - 1), min_size=1)
    reduce, features = sorted(data.draw(some)), sorted(data.draw(some))
    fast = data.draw(st.booleans())
    plan = norm.plan_layer_norm(ndim, [a - ndim for a in reduce], features)
    scale, bias = draw(plan.feature_shape(x.shape), 1), draw(plan.feature_shape(x.shape), 2)
    got = norm.layer_norm(plan, jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias), use_fast_variance=fast)
    np.testing.assert_allclose(got, reference(x, tuple(reduce), features, scale, bias), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fast", [True, False])
def test_mask_leaves_values_out(fast):
    x = draw((3, 5, 2))
    mask = np.arange(5).reshape(1, 5, 1) < np.array([5, 3, 1]).reshape(3, 1, 1)
    plan = norm.plan_layer_norm(3, (1, 2), -1)
    got = norm.layer_norm(plan, jnp.asarray(x), mask=jnp.asarray(mask), use_fast_variance=fast)
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    close(got, reference(x, (1, 2), (2,), one, zero, where=np.broadcast_to(mask, x.shape)))


def test_rms_norm_keeps_the_mean():
    x, scale = draw((3, 4)) + 3, draw((4,), 1)
    got = norm.layer_norm(norm.plan_layer_norm(2), jnp.asarray(x), jnp.asarray(scale), use_mean=False)
    close(got, x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale.reshape(1, 4))


@pytest.mark.parametrize(("axis", "reduce"), [(-1, (0, 1, 2)), (1, (0, 2, 3)), ((1, -1), (0, 2))])
def test_batch_norm(axis, reduce):
    x = draw((2, 3, 4, 5))
    plan = norm.plan_batch_norm(4, axis)
    assert plan.reduction_axes == reduce
    features = plan.feature_axes
    scale, bias = draw(plan.feature_shape(x.shape), 1), draw(plan.feature_shape(x.shape), 2)
    mean, var = norm.moments(jnp.asarray(x), plan.reduction_axes)
    got = norm.batch_norm(plan, jnp.asarray(x), mean, var, jnp.asarray(scale), jnp.asarray(bias), epsilon=1e-3)
    close(got, reference(x, reduce, features, scale, bias, 1e-3))


def test_instance_norm():
    x = draw((2, 5, 3))
    plan = norm.plan_instance_norm(3)
    got = norm.layer_norm(plan, jnp.asarray(x))
    close(got, reference(x, (1,), (2,), np.ones(3, np.float32), np.zeros(3, np.float32)))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    ("axes", "masked"), [(None, None), (None, 1), (None, 6), ((-1,), None), ((1, 2, 3), 6), ((0, 3), None)]
)
def test_group_norm(axes, fast, masked):
    x, scale, bias = draw((2, 3, 4, 6)), draw((6,), 1), draw((6,), 2)
    mask = None if masked is None else draw((2, 3, 4, masked), 5) > -0.5
    plan = norm.plan_group_norm(x.shape, 3, None, axes)
    positive = tuple(a % 4 for a in (axes or (1, 2, 3)))
    groups = np.split(x, 3, axis=-1)
    where = [True] * 3 if mask is None else np.split(np.broadcast_to(mask, x.shape), 3, axis=-1)
    unit = np.ones(2, np.float32), np.zeros(2, np.float32)
    parts = [reference(g, positive, (3,), *unit, where=w) for g, w in zip(groups, where)]
    expected = np.concatenate(parts, axis=-1) * scale.reshape(1, 1, 1, 6) + bias.reshape(1, 1, 1, 6)
    got = norm.group_norm(
        plan,
        jnp.asarray(x),
        jnp.asarray(scale),
        jnp.asarray(bias),
        use_fast_variance=fast,
        mask=None if mask is None else jnp.asarray(mask),
    )
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fast", [True, False])
def test_statistics_over_a_mapped_axis(fast):
    x = draw((4, 3, 2))
    over = lambda value: norm.moments(value, (0,), axis_name="b", use_fast_variance=fast)  # noqa: E731
    mean, var = jax.vmap(over, axis_name="b")(jnp.asarray(x))
    # Two passes subtract the common mean, so both ways give the variance of all values.
    close(var, np.broadcast_to(x.var((0, 1)), (4, 2)))
    close(mean, np.broadcast_to(x.mean((0, 1)), (4, 2)))
    square = jax.vmap(lambda v: norm.mean_square(v, (0,), axis_name="b"), axis_name="b")(jnp.asarray(x))
    close(square[1], (x**2).mean((0, 1)))


def test_groups_of_a_mapped_axis_reach_the_collective():
    over = lambda v: norm.moments(v, (0,), axis_name="b", axis_index_groups=[[0, 2], [1, 3]])[0]  # noqa: E731
    jaxpr = jax.make_jaxpr(over, axis_env=[("b", 4)])(jnp.ones(3))
    assert "axis_index_groups=((0, 2), (1, 3))" in str(jaxpr)


def test_variance_never_negative():
    x = jnp.full((3, 1000), 1e4) + 1e-3
    _, var = norm.moments(x, (1,))
    assert (np.asarray(var) >= 0).all()


def test_reductions_are_in_float32_unless_told():
    x = jnp.ones((2, 3), jnp.bfloat16)
    assert norm.moments(x, (1,))[0].dtype == jnp.float32
    assert norm.moments(x, (1,), force_float32_reductions=False)[0].dtype == jnp.bfloat16
    plan = norm.plan_layer_norm(2)
    assert norm.layer_norm(plan, x).dtype == jnp.bfloat16
    assert norm.layer_norm(plan, x, jnp.ones(3)).dtype == jnp.float32
    assert norm.layer_norm(plan, x, jnp.ones(3), dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_complex_statistics():
    x = (draw((5,)) + 1j * draw((5,), 1)).astype(np.complex64)
    mean, var = norm.moments(jnp.asarray(x), (0,))
    close(mean, x.mean())
    close(var, x.var())


def test_parameters_by_name():
    assert {k: v.shape for k, v in norm.norm_params((3, 4)).items()} == {"scale": (3, 4), "bias": (3, 4)}
    assert list(norm.norm_params((3,), use_bias=False)) == ["scale"]
    assert list(norm.norm_params((3,), use_scale=False)) == ["bias"]


@pytest.mark.parametrize(("groups", "size"), [(3, None), (None, 3), (0, None), (-2, None)])
def test_groups_must_divide(groups, size):
    with pytest.raises(ArgumentError, match=r"(?s)The 4 channels cannot be divided.*that divides 4"):
        norm.plan_group_norm((1, 4), groups, size)


@pytest.mark.parametrize(("groups", "size"), [(2, 2), (None, None)])
def test_groups_are_said_once(groups, size):
    with pytest.raises(ArgumentError, match="either num_groups or group_size"):
        norm.plan_group_norm((1, 4), groups, size)


def test_groups_of_one_example():
    x = jnp.array([1.0, 3.0, 10.0, 30.0])
    plan, row = norm.plan_group_norm(x.shape, 2), norm.plan_group_norm((1, 4), 2)
    for mask in (None, jnp.array([True, True, True, False])):
        one, batch = norm.group_norm(plan, x, mask=mask), norm.group_norm(row, x[None], mask=mask)
        np.testing.assert_allclose(one, batch[0], rtol=1e-5, atol=1e-6)


def test_bad_axes():
    with pytest.raises(ArgumentError, match=r"(?s)must include the last axis.*add -1"):
        norm.plan_group_norm((1, 4, 4), 2, None, (1,))
    with pytest.raises(ShapeMismatchError, match="reduction_axes does not fit an array of 0 dimensions"):
        norm.plan_group_norm((), 2)
    with pytest.raises(ArgumentError, match="cannot include the leading axis"):
        norm.plan_instance_norm(3, (0, 2))
    with pytest.raises(ShapeMismatchError, match="reduction_axes does not fit an array of 2 dimensions"):
        norm.plan_layer_norm(2, 2)
    with pytest.raises(ShapeMismatchError, match="axis does not fit"):
        norm.plan_batch_norm(2, -3)


@pytest.mark.parametrize("mask", [(5, 3), (3, 2, 3), (2,)])
def test_masks_that_do_not_broadcast(mask):
    with pytest.raises(ShapeMismatchError, match=r"broadcasts to \(2, 3\)"):
        norm.moments(jnp.ones((2, 3)), (1,), mask=jnp.ones(mask, bool))
    with pytest.raises(ShapeMismatchError, match=r"broadcasts to \(2, 3\)"):
        norm.mean_square(jnp.ones((2, 3)), (1,), mask=jnp.ones(mask, bool))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, bool])
def test_masks_of_numbers_are_those_of_booleans(dtype):
    x = draw((2, 3, 4))
    mask = (draw((2, 3, 4), 1) > -0.5).astype(dtype)
    expected = norm.moments(jnp.asarray(x), (0, 1), mask=jnp.asarray(mask != 0))
    for one, other in zip(norm.moments(jnp.asarray(x), (0, 1), mask=mask), expected):
        np.testing.assert_array_equal(one, other)
    plan = norm.plan_group_norm(x.shape, 2)
    groups = norm.group_norm(plan, jnp.asarray(x), mask=mask)
    np.testing.assert_array_equal(groups, norm.group_norm(plan, jnp.asarray(x), mask=mask != 0))
    square = norm.mean_square(jnp.asarray(x), (0,), mask=mask)
    np.testing.assert_array_equal(square, norm.mean_square(jnp.asarray(x), (0,), mask=jnp.asarray(mask != 0)))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("counts", [(3, 1, 2, 0), (0, 0, 0, 1), (3, 3, 3, 3)])
def test_devices_weigh_what_they_count(fast, counts):
    """The statistics are those of all values that count, wherever they are; a device without any gives no NaN."""
    x = jnp.asarray(draw((4, 3, 2)) + 5)
    mask = jnp.arange(3)[None, :, None] < jnp.array(counts).reshape(4, 1, 1)

    def run(x, mask):
        mean, var = norm.moments(x, (0,), axis_name="devices", mask=mask, use_fast_variance=fast)
        return mean, var, norm.mean_square(x, (0,), axis_name="devices", mask=mask)

    got = jax.vmap(run, axis_name="devices")(x, mask)
    values = np.asarray(x)[np.asarray(mask)[..., 0]]
    for one, expected in zip(got, (values.mean(0), values.var(0), (values**2).mean(0))):
        np.testing.assert_allclose(one, np.broadcast_to(expected, (4, 2)), rtol=1e-4, atol=1e-4)
    slopes = jax.grad(lambda x: sum(jnp.sum(v) for v in jax.vmap(run, axis_name="devices")(x, mask)))(x)
    assert np.isfinite(slopes).all()
    np.testing.assert_array_equal(slopes[~np.broadcast_to(mask, x.shape)], 0)


@pytest.mark.parametrize("offset", [0.0, 3e3, -1e5])
@pytest.mark.parametrize("kind", ["layer", "layer of two axes", "group", "masked", "outlier"])
def test_examples_far_from_zero(kind, offset):
    """The one-pass variance of an example is as good as that of two passes."""
    x = draw((2, 6, 8)).astype(np.float64) + offset
    mask, plan, run = None, norm.plan_layer_norm(3), norm.layer_norm
    if kind == "layer of two axes":
        plan = norm.plan_layer_norm(3, (1, 2))
    elif kind == "group":
        plan, run = norm.plan_group_norm(x.shape, 2), norm.group_norm
    elif kind == "masked":
        mask = np.arange(8) < 5
        x[..., 5:] = np.inf
    elif kind == "outlier":
        x[..., 0] += 1e4
    x = jnp.asarray(x, jnp.float32)
    exact, fast = [run(plan, x, mask=mask, use_fast_variance=way) for way in (False, True)]
    np.testing.assert_allclose(fast, exact, rtol=1e-5, atol=1e-6 + 3e-7 * abs(offset))


def test_gradients_of_the_one_pass_variance():
    x = jnp.asarray(draw((7,)) + 100)
    plan = norm.plan_layer_norm(1)

    def second(fast):
        return jax.hessian(lambda x: jnp.sin(norm.layer_norm(plan, x, use_fast_variance=fast)).sum())(x)

    np.testing.assert_allclose(second(True), second(False), rtol=1e-3, atol=1e-4)
