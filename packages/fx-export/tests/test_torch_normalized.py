"""Layers under weight and spectral normalization are written in PyTorch's parts of a weight, and read from them."""

import jax
import numpy as np
import pytest
from fx_core.errors import ArgumentError
from fx_core.ops.norm.weights import spectral_norm, weight_norm
from fx_export.torch import TorchMismatchError, from_torch, to_torch

RANDOM = np.random.default_rng(0)
NEWER = "parametrizations.weight."
LENGTHS = {"hooks": ("weight_g", "weight_v"), "parametrizations": (NEWER + "original0", NEWER + "original1")}
VECTORS = {
    "hooks": ("weight_orig", "weight_u", "weight_v"),
    "parametrizations": (NEWER + "original", NEWER + "0._u", NEWER + "0._v"),
}
WAYS = list(LENGTHS)


def drawn(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, other)


def with_lengths(kernel, lengths, layer="Dense_0", wrapper="WeightNorm_0"):
    params = {layer: {"kernel": kernel, "bias": drawn(kernel.shape[-1])}}
    return {"params": {**params, wrapper: {f"{layer}/kernel/scale": lengths}}}


def converged(kernel):
    left, value = spectral_norm(kernel, drawn(1, kernel.shape[-1]), 200)
    return np.asarray(left), np.asarray(value)


def with_vectors(kernel, layer="Dense_0"):
    left, value = converged(kernel)
    stats = {f"{layer}/kernel/u": left, f"{layer}/kernel/sigma": value}
    return {"params": {layer: {"kernel": kernel}}, "batch_stats": {"SpectralNorm_0": stats}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("layer", "shape"), [("Dense_0", (3, 3)), ("Conv_0", (2, 5, 3, 4))])
def test_weight_normalization(way, layer, shape):
    variables = with_lengths(drawn(*shape), drawn(shape[-1]), layer)
    state = to_torch(variables, normalization=way)
    names = [f"{layer}.{name}" for name in LENGTHS[way]]
    assert sorted(state) == sorted([*names, f"{layer}.bias"])
    lengths, directions = (state[name] for name in names)
    assert lengths.shape == (shape[-1], *[1] * (len(shape) - 1))
    # What PyTorch computes with: a length for each entry of the first axis.
    rest = tuple(range(1, len(shape)))
    weight = lengths * directions / np.sqrt((directions**2).sum(rest, keepdims=True))
    params = variables["params"]
    ours = weight_norm(params[layer]["kernel"], params["WeightNorm_0"][f"{layer}/kernel/scale"], (len(shape) - 1,))
    np.testing.assert_allclose(to_torch({layer: {"kernel": np.asarray(ours)}})[f"{layer}.weight"], weight, rtol=1e-5)
    same(from_torch(state, jax.tree.map(np.zeros_like, variables)), variables)


@pytest.mark.parametrize(
    ("layer", "kernel", "lengths", "theirs"),
    [
        ("Dense_0", (2, 4), (2,), (1, 2)),
        ("Dense_0", (2, 4), (), ()),
        ("ConvTranspose_0", (5, 2, 4), (4,), (1, 4, 1)),
        ("ConvTranspose_0", (5, 2, 4), (2,), (2, 1, 1)),
    ],
)
def test_lengths_along_other_axes(layer, kernel, lengths, theirs):
    variables = with_lengths(drawn(*kernel), np.asarray(drawn(*lengths)), layer)
    state = to_torch(variables, normalization="hooks")
    assert state[f"{layer}.weight_g"].shape == theirs
    same(from_torch(state, variables), variables)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("layer", "shape"), [("Dense_0", (3, 4)), ("Conv_0", (2, 3, 4)), ("ConvTranspose_0", (2, 3, 3))]
)
def test_spectral_normalization(way, layer, shape):
    variables = with_vectors(drawn(*shape), layer)
    state = to_torch(variables, normalization=way)
    assert list(state) == [f"{layer}.{name}" for name in VECTORS[way]]
    weight, left, right = state.values()
    # PyTorch takes features that come out as the rows, and all other axes as the columns.
    matrix = np.moveaxis(weight, "Transpose" in layer, 0).reshape(shape[-1], -1)
    np.testing.assert_allclose(left @ matrix @ right, np.linalg.norm(matrix, 2), rtol=1e-5)
    np.testing.assert_allclose([np.linalg.norm(left), np.linalg.norm(right)], 1, rtol=1e-5)
    same(from_torch(state, jax.tree.map(np.zeros_like, variables)), variables)
    # The vectors belong to this kernel, not to the one that was there.
    described = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), variables)
    same(from_torch(state, described), variables)


def test_estimates_that_have_not_converged_are_refused_both_ways():
    variables = with_vectors(np.diag([4.0, 2.0, 1.0, 0.5]).astype(np.float32)[:3])
    state = to_torch(variables)
    text = r"Dense_0/kernel: the singular value .* is .* after one more step"
    far = np.linalg.svd(variables["params"]["Dense_0"]["kernel"])[2][1:2]
    far = (far + 0.1 * variables["batch_stats"]["SpectralNorm_0"]["Dense_0/kernel/u"]).astype(np.float32)
    stats = {**variables["batch_stats"]["SpectralNorm_0"], "Dense_0/kernel/u": far}
    with pytest.raises(TorchMismatchError, match=text):
        to_torch({**variables, "batch_stats": {"SpectralNorm_0": stats}})
    state["Dense_0.parametrizations.weight.0._u"] = far[0]
    with pytest.raises(TorchMismatchError, match=text):
        from_torch(state, variables)


def test_layers_along_an_axis():
    lengths, kernel = drawn(3, 4), drawn(3, 2, 4)
    stack = {"blocks": with_lengths(kernel, lengths, wrapper="norm")["params"]}
    stack["blocks"]["Dense_0"]["bias"] = drawn(3, 4)
    state = to_torch({"params": stack}, stacked={"blocks": 0}, normalization="hooks")
    np.testing.assert_array_equal(state["blocks.2.Dense_0.weight_g"][:, 0], lengths[2])
    same(from_torch(state, {"params": stack}, stacked={"blocks": 0}), {"params": stack})


def test_what_pytorch_normalizes_otherwise():
    both = with_lengths(drawn(2, 3, 4), drawn(3, 4), "Conv_0")
    with pytest.raises(
        TorchMismatchError, match="Conv_0: weight has lengths along a part of an axis, or along several"
    ):
        to_torch(both)
    heads = {name: {"kernel": drawn(4, 2, 2)} for name in ("query", "key", "value")} | {
        "out": {"kernel": drawn(2, 2, 4)}
    }
    attention = {"params": {"att": heads, "norm": {"att/query/kernel/scale": drawn(2)}}}
    with pytest.raises(TorchMismatchError, match="att: in_proj_weight has several parts"):
        to_torch(attention)
    turned = with_vectors(drawn(2, 3, 3), "up")
    with pytest.raises(TorchMismatchError, match="up: weight is divided by the singular value of another matrix"):
        to_torch(turned, layers={"up": "conv_transpose_of"})
    wrong = with_lengths(drawn(2, 4), drawn(3))
    with pytest.raises(TorchMismatchError, match=r"lengths of shape \(3,\) do not belong to a weight of \(2, 4\)"):
        to_torch(wrong)
    with pytest.raises(TorchMismatchError, match="Dense_1/kernel/scale: the weight that it belongs to is not there"):
        to_torch({"params": {"norm": {"Dense_1/kernel/scale": drawn(2)}}})
    twice = with_lengths(drawn(2, 4), drawn(4))
    twice["params"]["other"] = {"Dense_0/kernel/scale": drawn(4)}
    with pytest.raises(TorchMismatchError, match="Dense_0/kernel: two layers normalize it"):
        to_torch(twice)
    with pytest.raises(ArgumentError, match="hooks or parametrizations"):
        to_torch(wrong, normalization="weight_norm")


def test_parts_that_are_missing_or_plain_are_reported():
    variables = with_lengths(drawn(2, 4), drawn(4))
    plain = {"Dense_0.weight": drawn(4, 2), "Dense_0.bias": drawn(4)}
    with pytest.raises(TorchMismatchError) as caught:
        from_torch(plain, variables)
    assert len(caught.value.missing) == 2
    assert caught.value.unexpected == ("Dense_0.weight float32(4, 2)",)
