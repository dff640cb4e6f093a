"""Codes, scales and products of fx-compress beside those of qwix and of the GGUF files of llama.cpp."""

import fx_compress
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.ops.linear import dense

KERNEL = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)


def rms(difference):
    return float(np.sqrt((np.asarray(difference) ** 2).mean()))


def of_gguf(kind, width):
    """What GGUF makes of the kernel, and its blocks of 32 inputs: scales in float16 and bytes of codes."""
    quants = pytest.importorskip("gguf.quants")
    stored = quants.quantize(np.ascontiguousarray(KERNEL.T), kind)
    blocks = stored.reshape(16, 2, 2 + width)
    scale = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0].T
    return quants.dequantize(stored, kind).T, scale, blocks[..., 2:]


def test_eight_bits_in_groups_are_those_of_gguf():
    gguf = pytest.importorskip("gguf")
    want, scale, codes = of_gguf(gguf.GGMLQuantizationType.Q8_0, 32)
    got = fx_compress.int8(group=32).quantize(jnp.asarray(KERNEL))
    np.testing.assert_array_equal(got.codes(), codes.view(np.int8).reshape(16, 64).T)
    # GGUF rounds scales to float16.
    np.testing.assert_allclose(got.scale, scale, rtol=2**-11)
    np.testing.assert_allclose(got.materialize(), want, rtol=2**-10)


def test_four_bits_in_groups_are_about_as_exact_as_those_of_gguf():
    gguf = pytest.importorskip("gguf")
    # One code more, -8, and a scale by the side of the largest value.
    want, _, _ = of_gguf(gguf.GGMLQuantizationType.Q4_0, 16)
    nearest = fx_compress.int4(group=32).quantize(jnp.asarray(KERNEL)).materialize()
    clipped = fx_compress.int4(group=32, clip="mse").quantize(jnp.asarray(KERNEL)).materialize()
    assert rms(nearest - KERNEL) < 1.15 * rms(want - KERNEL)
    assert rms(clipped - KERNEL) < 1.08 * rms(want - KERNEL)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("nf4", fx_compress.nf4(group=None)),
        ("nf4", fx_compress.nf4(group=16)),
        ("float8_e4m3fn", fx_compress.fp8()),
        ("float8_e5m2", fx_compress.fp8("e5m2")),
    ],
    ids=lambda value: f"{value.format}-{value.group}" if hasattr(value, "group") else value,
)
def test_numbers_are_those_of_qwix(name, scheme):
    qwix = pytest.importorskip("qwix")
    tiles = {} if scheme.group is None else {0: scheme.group}
    theirs = qwix.quantize(jnp.asarray(KERNEL), name, channelwise_axes=(1,), tiled_axes=tiles)
    ours = scheme.quantize(jnp.asarray(KERNEL))
    np.testing.assert_allclose(ours.scale, theirs.scale, rtol=1e-6)
    np.testing.assert_allclose(ours.materialize(), qwix.dequantize(theirs), rtol=1e-6)


@pytest.mark.parametrize(("name", "group"), [("int8", None), ("int8", 16), ("int4", None), ("int4", 16)])
def test_integers_are_those_of_qwix_for_the_same_scales(name, group):
    qwix = pytest.importorskip("qwix")
    ours = fx_compress.Scheme(name, group=group).quantize(jnp.asarray(KERNEL))
    tiles = {} if group is None else {0: group}
    theirs = qwix.quantize(jnp.asarray(KERNEL), name, channelwise_axes=(1,), tiled_axes=tiles)
    # qwix divides by half a code more: its scale is smaller by that.
    largest = {"int8": 127, "int4": 7}[name]
    np.testing.assert_allclose(ours.scale * largest / (largest + 0.5), theirs.scale, rtol=1e-6)
    same = qwix.QArray(ours.codes().astype(name), ours.scale, qtype=name)
    np.testing.assert_allclose(ours.materialize(), qwix.dequantize(same), rtol=1e-6)
    assert rms(ours.materialize() - KERNEL) < 1.1 * rms(qwix.dequantize(theirs) - KERNEL)


def test_products_of_integers_are_those_of_qwix():
    qwix = pytest.importorskip("qwix")
    ours = fx_compress.int8(activations="dynamic").quantize(jnp.asarray(KERNEL))
    scale = np.abs(X).max(1, keepdims=True) / 127
    inputs = qwix.QArray(jnp.asarray(np.round(X / scale), jnp.int8), jnp.asarray(scale), qtype="int8")
    weights = qwix.QArray(ours.codes(), ours.scale, qtype="int8")
    want = qwix.dot_general(inputs, weights, (((1,), (0,)), ((), ())))
    np.testing.assert_allclose(dense(jnp.asarray(X), ours), want, rtol=1e-5, atol=1e-5)
