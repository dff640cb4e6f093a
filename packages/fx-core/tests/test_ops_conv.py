"""Convolutions against loops over windows."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import (
    ArgumentError,
    ShapeMismatchError,
)
from fx_core.ops import conv
from hypothesis import given, settings
from hypothesis import strategies as st


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def padded(x, padding, kernel_size, strides, dilation):
    """Pad ``(batch, *space, features)`` the way the documentation says."""
    pads, mode = [], "constant"
    for size, k, s, d in zip(x.shape[1:-1], kernel_size, strides, dilation):
        reach = (k - 1) * d
        if padding == "VALID":
            pads.append((0, 0))
        elif padding == "SAME":
            total = max((-(-size // s) - 1) * s + reach + 1 - size, 0)
            pads.append((total // 2, total - total // 2))
        elif padding == "CAUSAL":
            pads.append((reach, 0))
        else:
            mode = {"CIRCULAR": "wrap", "REFLECT": "reflect"}[padding]
            pads.append((reach // 2, reach - reach // 2))
    return np.pad(x, [(0, 0), *pads, (0, 0)], mode=mode)


def convolve(x, kernel, padding, strides, dilation, groups=1):
    size = kernel.shape[:-2]
    x = padded(x, padding, size, strides, dilation)
    space = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[1:-1], size, strides, dilation)]
    out = np.zeros((x.shape[0], *space, kernel.shape[-1]), np.float32)
    n_in, n_out = kernel.shape[-2], kernel.shape[-1] // groups
    for at in itertools.product(*map(range, space)):
        for tap in itertools.product(*map(range, size)):
            where = tuple(a * s + t * d for a, s, t, d in zip(at, strides, tap, dilation))
            for g in range(groups):
                ins, outs = slice(g * n_in, (g + 1) * n_in), slice(g * n_out, (g + 1) * n_out)
                out[(slice(None), *at, outs)] += x[(slice(None), *where, ins)] @ kernel[(*tap, slice(None), outs)]
    return out


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_conv_equals_a_loop(data):
    rank = data.draw(st.integers(1, 2))
    each = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    size, strides, dilation = each(1, 3), each(1, 2), each(1, 2)
    names = ["SAME", "VALID", "CIRCULAR", "REFLECT"] + ["CAUSAL"] * (rank == 1)
    padding = data.draw(st.sampled_from(names))
    groups = data.draw(st.sampled_from([1, 2]))
    x = draw((2, *each(5, 6), 2))
    shapes = conv.conv_params(size, 2, 4, groups)
    kernel, bias = draw(shapes["kernel"].shape, 1), draw(shapes["bias"].shape, 2)
    plan = conv.plan_conv(size, strides, padding, kernel_dilation=dilation, feature_group_count=groups)
    got = conv.conv(plan, jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias))
    expected = convolve(x, kernel, padding, strides, dilation, groups) + bias.reshape((1,) * (rank + 1) + (4,))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (0,)])
def test_batch_dimensions(batch):
    plan = conv.plan_conv((2,), padding="VALID")
    x, kernel = draw((*batch, 4, 1)), draw((2, 1, 3), 1)
    got = conv.conv(plan, jnp.asarray(x), jnp.asarray(kernel))
    flat = convolve(x.reshape((int(np.prod(batch)), 4, 1)), kernel, "VALID", (1,), (1,))
    np.testing.assert_allclose(got, flat.reshape((*batch, 3, 3)), rtol=1e-5, atol=1e-6)


def test_explicit_padding_and_input_dilation():
    x, kernel = draw((1, 3, 1)), draw((2, 1, 1), 1)
    plan = conv.plan_conv((2,), padding=[(2, 1)], input_dilation=2)
    spread = np.zeros((1, 5, 1), np.float32)
    spread[:, ::2] = x
    expected = convolve(np.pad(spread, [(0, 0), (2, 1), (0, 0)]), kernel, "VALID", (1,), (1,))
    np.testing.assert_allclose(conv.conv(plan, jnp.asarray(x), jnp.asarray(kernel)), expected, rtol=1e-5, atol=1e-6)


def test_three_dimensions():
    x, kernel = draw((1, 3, 4, 3, 2)), draw((2, 3, 1, 2, 2), 1)
    got = conv.conv(conv.plan_conv((2, 3, 1)), jnp.asarray(x), jnp.asarray(kernel))
    np.testing.assert_allclose(got, convolve(x, kernel, "SAME", (1,) * 3, (1,) * 3), rtol=1e-4, atol=1e-5)


def test_plans_are_normalized_and_shared():
    plan = conv.plan_conv([3, 3], 2, [1, (0, 2)], None, (1, 1))
    assert plan == conv.plan_conv((3, 3), [2, 2], ((1, 1), (0, 2)))
    assert plan.padding == ((1, 1), (0, 2))
    assert conv.plan_conv((3,), padding="same").padding == "SAME"
    assert conv.plan_conv(3).kernel_size == (3,)
    assert conv.plan_conv((3,), strides=2) is conv.plan_conv((3,), strides=2)


def test_local_conv_uses_a_kernel_per_position():
    plan = conv.plan_conv((2,), padding="SAME", strides=2, kernel_dilation=2)
    x = draw((2, 5, 3))
    shapes = conv.conv_local_params(plan, x.shape, 4)
    kernel, bias = draw(shapes["kernel"].shape, 1), draw(shapes["bias"].shape, 2)
    image = padded(x, "SAME", (2,), (2,), (2,))
    patches = np.stack([image[:, [2 * i, 2 * i + 2]] for i in range(3)], axis=1)  # batch, window, tap, feature
    flat = patches.transpose(0, 1, 3, 2).reshape(2, 3, 6)  # features before taps
    expected = np.einsum("bwi,wio->bwo", flat, kernel) + bias[None]
    got = conv.conv_local(plan, jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def spread(x, kernel, stride, dilation):
    """The full transposed convolution in one dimension: every value adds its kernel, flipped as JAX has it."""
    n, k = x.shape[0], kernel.shape[0]
    out = np.zeros(((n - 1) * stride + (k - 1) * dilation + 1, kernel.shape[-1]), np.float32)
    for i in range(n):
        for t in range(k):
            out[i * stride + t * dilation] += x[i] @ kernel[k - 1 - t]
    return out


@pytest.mark.parametrize(("stride", "dilation", "k"), [(1, 1, 3), (2, 1, 3), (3, 1, 2), (2, 2, 2)])
def test_transposed_conv_spreads_values(stride, dilation, k):
    x, kernel = draw((4, 2)), draw((k, 2, 3), 1)
    plan = conv.plan_conv_transpose((k,), stride, "VALID", dilation)
    full = spread(x, kernel, stride, dilation)
    got = np.asarray(conv.conv_transpose(plan, jnp.asarray(x), jnp.asarray(kernel)))
    np.testing.assert_allclose(got[: len(full)], full, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[len(full) :], 0)


@pytest.mark.parametrize("transpose_kernel", [False, True])
@pytest.mark.parametrize(("stride", "k"), [(1, 3), (2, 3), (2, 4), (3, 2), (1, 5)])
def test_circular_transposed_conv_is_a_torus(stride, k, transpose_kernel):
    """The result has the size of the torus, loses nothing, and rolls with the input."""
    plan = conv.plan_conv_transpose((k,), stride, "CIRCULAR", transpose_kernel=transpose_kernel)
    x, kernel = draw((4, 1)), draw((k, 1, 1), 1)
    run = lambda value: np.asarray(conv.conv_transpose(plan, jnp.asarray(value), jnp.asarray(kernel)))  # noqa: E731
    y = run(x)
    assert y.shape == (4 * stride, 1)
    np.testing.assert_allclose(y.sum(), x.sum() * kernel.sum(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run(np.roll(x, 1, axis=0)), np.roll(y, stride, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize(("k", "stride"), [(k, s) for k in (1, 2, 3, 4, 9) for s in (1, 2, 3, 4)])
def test_circular_transposed_conv_is_the_adjoint(k, stride, dilation):
    """<conv(a), b> is <a, conv_transpose(b)> for the same kernel."""
    forth = conv.plan_conv((k,), stride, "CIRCULAR", kernel_dilation=dilation)
    back = conv.plan_conv_transpose((k,), stride, "CIRCULAR", dilation, transpose_kernel=True)
    a, kernel, b = draw((1, 12, 2)), draw((k, 2, 3), 1), draw((1, 12 // stride, 3), 2)
    there = conv.conv(forth, jnp.asarray(a), jnp.asarray(kernel))
    here = conv.conv_transpose(back, jnp.asarray(b), jnp.asarray(kernel))
    np.testing.assert_allclose((there * b).sum(), (a * here).sum(), rtol=1e-3, atol=1e-3)


def test_transposed_conv_with_bias_and_batch():
    plan = conv.plan_conv_transpose((3, 2), (2, 1), 1)
    x, kernel, bias = draw((2, 1, 3, 4, 2)), draw((3, 2, 2, 5), 1), draw((5,), 2)
    got = conv.conv_transpose(plan, jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias))
    plain = conv.conv_transpose(plan, jnp.asarray(x[:, 0]), jnp.asarray(kernel))
    np.testing.assert_allclose(got[:, 0], plain + bias.reshape(1, 1, 1, 5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_no_window_leaves_a_product_of_features(batch):
    x, kernel = draw((*batch, 3)), draw((3, 2))
    results = [
        conv.conv(conv.plan_conv(()), x, kernel, jnp.ones(2)),
        conv.conv_transpose(conv.plan_conv_transpose(()), x, kernel, jnp.ones(2)),
        conv.conv_local(conv.plan_conv((), padding="VALID"), x, kernel, jnp.ones(2)),
    ]
    for result in results:
        np.testing.assert_allclose(result, x @ kernel + 1, rtol=1e-5)


def test_masked_kernel():
    kernel, mask = jnp.ones((2, 1, 2)), jnp.array([0.0, 1.0]).reshape(2, 1, 1) * jnp.ones((2, 1, 2))
    np.testing.assert_array_equal(conv.masked(kernel, mask), mask)
    assert conv.masked(kernel, None) is kernel
    with pytest.raises(ShapeMismatchError, match=r"(?s)same shape as the kernel.*\(2, 1, 2\).*\(2, 2\)"):
        conv.masked(kernel, jnp.ones((2, 2)))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"kernel_size": (3, 3), "strides": (2,)}, r"strides=\(2,\)"),
        ({"kernel_size": (3, 3), "kernel_dilation": (1, 1, 1)}, "kernel_dilation of a convolution"),
        ({"kernel_size": (3, 0)}, r"kernel_size=\(3, 0\)"),
        ({"kernel_size": (), "strides": (1,)}, r"strides=\(1,\)"),
        ({"kernel_size": None}, "one per spatial dimension"),
        ({"kernel_size": (3,), "input_dilation": "x"}, "input_dilation='x'"),
    ],
)
def test_bad_windows(arguments, text):
    with pytest.raises(ArgumentError, match=text):
        conv.plan_conv(**arguments)


@pytest.mark.parametrize("padding", ["CAUSAL", "FOO", (1,), ((1, 1),) * 3, ((1, 2, 3), (1, 1)), None])
def test_bad_paddings(padding):
    with pytest.raises(ArgumentError, match=r"(?s)2 spatial dimension\(s\).*CIRCULAR.*padding="):
        conv.plan_conv((3, 3), padding=padding)


def test_transposed_padding_has_no_causal():
    with pytest.raises(ArgumentError, match=r"expected: CIRCULAR, SAME, VALID, an integer"):
        conv.plan_conv_transpose((3,), padding="CAUSAL")


@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR", "REFLECT", "CAUSAL"])
def test_names_of_padding_need_an_undilated_input(padding):
    with pytest.raises(ArgumentError, match="when the input is dilated"):
        conv.plan_conv((3,), padding=padding, input_dilation=2)
    assert conv.plan_conv((3,), padding=padding, input_dilation=1).kernel_size == (3,)
    assert conv.plan_conv((3,), padding="VALID", input_dilation=2).padding == ((0, 0),)


def test_bad_groups_and_ranks():
    with pytest.raises(ArgumentError, match="do not divide the input features"):
        conv.conv_params((3,), 3, 4, groups=2)
    with pytest.raises(ArgumentError, match="do not divide the output features"):
        conv.conv_params((3,), 4, 3, groups=2)
    with pytest.raises(ArgumentError, match="local convolution has no feature groups"):
        conv.conv_local_params(conv.plan_conv((3,), feature_group_count=2), (4, 2), 4)
    with pytest.raises(ShapeMismatchError, match=r"\(\*batch, space, space, features\)"):
        conv.conv(conv.plan_conv((3, 3)), jnp.ones((4, 4)), jnp.ones((3, 3, 1, 1)))
    with pytest.raises(ShapeMismatchError, match="too few dimensions"):
        conv.conv_local_params(conv.plan_conv((3, 3)), (4, 4), 1)
