"""Recurrent cells and sequences, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ShapeMismatchError, UnsupportedOperationError
from fx_core.ops import recurrent
from fx_core.ops.conv import plan_conv
from fx_core.ops.recurrent import Affine
from fx_core.ops.recurrent.params import default_recurrent_kernel_init
from hypothesis import given, settings
from hypothesis import strategies as st

KEY = jax.random.key(0)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def maps(sizes, out, seed, bias=True):
    return [
        Affine(
            jnp.asarray(draw(size, out, seed=seed + i)), jnp.asarray(draw(out, seed=seed + 50 + i)) if bias else None
        )
        for i, size in enumerate(sizes)
    ]


def apply(gate, x):
    bias = 0 if gate.bias is None else np.asarray(gate.bias)[None]
    return x @ np.asarray(gate.kernel) + bias


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


X, H, C = draw(2, 3, seed=1), draw(2, 4, seed=2), draw(2, 4, seed=3)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_lstm_equations():
    ins, hid = maps([3] * 4, 4, 0), maps([4] * 4, 4, 10)
    i, f, g, o = (apply(a, X) + apply(b, H) for a, b in zip(ins, hid))
    c = sigmoid(f) * C + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    for got in (
        recurrent.lstm((C, H), X, ins, hid),
        recurrent.lstm_fused((C, H), X, recurrent.fuse(ins), recurrent.fuse(hid)),
    ):
        close(got[0], c)
        close(got[1], h)


def test_gru_equations():
    ins, hid = maps([3] * 3, 4, 0), maps([4] * 3, 4, 10)
    (xr, xz, xn), (hr, hz, hn) = [apply(a, X) for a in ins], [apply(a, H) for a in hid]
    z = sigmoid(xz + hz)
    expected = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * H
    close(recurrent.gru(jnp.asarray(H), X, ins, hid), expected)
    close(recurrent.gru_fused(jnp.asarray(H), X, recurrent.fuse(ins), recurrent.fuse(hid)), expected)


@pytest.mark.parametrize("reset_gate", [False, True])
def test_mgu_equations(reset_gate):
    ins, hid = maps([3] * 2, 4, 0), maps([4] * 2, 4, 10)
    f = sigmoid(apply(ins[0], X) + apply(hid[0], H))
    n = np.tanh(apply(ins[1], X) + (f if reset_gate else 1) * apply(hid[1], H))
    close(recurrent.mgu(jnp.asarray(H), X, ins, hid, reset_gate=reset_gate), (1 - f) * n + f * H)


@pytest.mark.parametrize("residual", [False, True])
def test_simple_equations(residual):
    (a,), (b,) = maps([3], 4, 0), maps([4], 4, 10, bias=False)
    expected = np.tanh(apply(a, X) + apply(b, H) + residual * H)
    close(recurrent.simple(jnp.asarray(H), X, a, b, residual=residual), expected)


def test_conv_lstm_of_one_pixel_is_an_lstm():
    """With a window of one, each pixel is an LSTM of its own, except for the order of gates and the forget bias."""
    plan, (a,), (b,) = plan_conv((1,)), maps([3], 16, 0), maps([4], 16, 10)
    got = recurrent.conv_lstm(plan, (C, H), X, Affine(a.kernel[None], a.bias), Affine(b.kernel[None], b.bias))
    i, g, f, o = np.split(apply(a, X) + apply(b, H), 4, axis=-1)
    expected = recurrent.lstm_update(C, *map(jnp.asarray, (i, f + 1, g, o)))
    jax.tree.map(close, got, expected)


def test_maps_compute_in_the_dtype_of_their_kernel():
    ins = jax.tree.map(lambda x: x.astype(jnp.bfloat16), maps([3] * 4, 4, 0))
    hid = jax.tree.map(lambda x: x.astype(jnp.bfloat16), maps([4] * 4, 4, 10))
    c, h = recurrent.lstm((jnp.asarray(C), jnp.asarray(H)), jnp.asarray(X), ins, hid)
    assert c.dtype == h.dtype == jnp.float32
    low = jnp.asarray(C, jnp.bfloat16), jnp.asarray(H, jnp.bfloat16)
    assert recurrent.lstm(low, jnp.asarray(X), ins, hid)[0].dtype == jnp.bfloat16


def test_orthogonal_kernels_in_low_precision():
    exact = default_recurrent_kernel_init(KEY, (4, 4), jnp.float32)
    close(exact @ exact.T, np.eye(4))
    for dtype in (jnp.bfloat16, jnp.float16):
        low = default_recurrent_kernel_init(KEY, (4, 4), dtype)
        assert low.dtype == dtype
        np.testing.assert_array_equal(low, exact.astype(dtype))


def test_carries_that_do_not_fit():
    ins, hid = maps([3] * 4, 4, 0), maps([4] * 4, 4, 10)
    wrong = jnp.zeros((2, 3))
    with pytest.raises(ShapeMismatchError, match=r"carry of an LSTM(.|\n)*4 features(.|\n)*initialize_carry"):
        recurrent.lstm((wrong, wrong), X, ins, hid)
    with pytest.raises(ShapeMismatchError, match="carry of an LSTM"):
        recurrent.lstm_fused((wrong, wrong), X, recurrent.fuse(ins), recurrent.fuse(hid))
    for cell, size, name in ((recurrent.gru, 3, "a GRU"), (recurrent.mgu, 2, "an MGU")):
        with pytest.raises(ShapeMismatchError, match=f"carry of {name}"):
            cell(wrong, X, ins[:size], hid[:size])
    with pytest.raises(ShapeMismatchError, match="carry of a GRU"):
        recurrent.gru_fused(wrong, X, recurrent.fuse(ins[:3]), recurrent.fuse(hid[:3]))
    with pytest.raises(ShapeMismatchError, match="carry of a simple cell"):
        recurrent.simple(wrong, X, ins[0], hid[0])


@pytest.mark.parametrize(("carry", "what"), [((5, 1), "features"), ((4, 2), "pixels")])
def test_carries_that_do_not_fit_images(carry, what):
    kernels = Affine(jnp.zeros((3, 1, 8))), Affine(jnp.zeros((3, 2, 8)))
    with pytest.raises(ShapeMismatchError, match=rf"does not have the {what} of its gates(.|\n)*padding='SAME'"):
        recurrent.conv_lstm(plan_conv((3,)), (jnp.zeros(carry),) * 2, jnp.zeros((5, 1)), *kernels)


def test_interface_error_is_also_what_python_raises_for_it():
    assert issubclass(UnsupportedOperationError, NotImplementedError)


def test_axes_of_sequences():
    assert recurrent.sequence_axes((2, 3, 5, 7), 1, time_major=False) == (2, (2, 3))
    assert recurrent.sequence_axes((5, 2, 3, 7), 1, time_major=True) == (0, (2, 3))
    assert recurrent.sequence_axes((5, 8, 8, 1), 3, time_major=False) == (0, ())
    with pytest.raises(ShapeMismatchError, match=r"too few dimensions(.|\n)*\(\*batch, time, then 1 axes"):
        recurrent.sequence_axes((7,), 1, time_major=False)
    with pytest.raises(ShapeMismatchError, match=r"\(time, \*batch, then 3"):
        recurrent.sequence_axes((7, 7, 1), 3, time_major=True)


@pytest.mark.parametrize("lengths", [[1, 2, 3], 2, [1.0, 2.0]])
def test_lengths_that_do_not_fit(lengths):
    with pytest.raises(ShapeMismatchError, match=r"do not fit(.|\n)*integers of shape \(2,\)"):
        recurrent.check_lengths(lengths, (2,))


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_flips_and_selections(data):
    batch = data.draw(st.sampled_from([(), (2,), (1, 2)]))
    steps = data.draw(st.sampled_from([1, 4]))
    features = data.draw(st.sampled_from([(), (3,), (2, 2)]))
    lengths = np.asarray(np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, steps + 1, batch))
    x = draw(*batch, steps, *features)
    axis = len(batch)
    flipped = recurrent.flip_sequences(jnp.asarray(x), jnp.asarray(lengths), time_axis=axis)
    states, first = np.moveaxis(x, axis, 0), np.zeros((*batch, *features), np.float32)
    last = recurrent.select_last(jnp.asarray(states), jnp.asarray(lengths), jnp.asarray(first))
    for index in np.ndindex(batch):
        n = lengths[index]
        np.testing.assert_array_equal(flipped[index][:n], x[index][:n][::-1])
        np.testing.assert_array_equal(flipped[index][n:], x[index][n:][::-1])
        np.testing.assert_array_equal(last[index], x[index][n - 1] if n else first[index])
    again = recurrent.flip_sequences(flipped, jnp.asarray(lengths), time_axis=axis)
    np.testing.assert_array_equal(again, x)
    major = recurrent.flip_sequences(jnp.asarray(states), jnp.asarray(lengths), time_axis=0)
    np.testing.assert_array_equal(np.moveaxis(major, 0, axis), flipped)


def test_flip_of_whole_sequences():
    x = {"a": jnp.arange(6).reshape(2, 3)}
    np.testing.assert_array_equal(recurrent.flip_sequences(x, time_axis=1)["a"], [[2, 1, 0], [5, 4, 3]])


def test_parameters_by_gate():
    shapes = {
        gate: {name: spec.shape for name, spec in params.items()} for gate, params in recurrent.mgu_params(3, 4).items()
    }
    affine = {"kernel": (3, 4), "bias": (4,)}
    assert shapes == {"if": affine, "hf": {"kernel": (4, 4)}, "hn": {"kernel": (4, 4), "bias": (4,)}, "in": affine}
    assert list(recurrent.gru_params(3, 4)) == ["ir", "hr", "iz", "hz", "in", "hn"]
