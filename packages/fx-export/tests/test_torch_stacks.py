"""Stacked layers become layers each by itself, and normalized weights of PyTorch are read as it computes them."""

import jax
import numpy as np
import pytest
from fx_export.torch import Rule, TorchMismatchError, from_torch, to_torch

RANDOM = np.random.default_rng(0)


def drawn(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


NETWORK = {
    "params": {
        "blocks": {"dense": {"kernel": drawn(3, 2, 4), "bias": drawn(3, 4)}, "norm": {"scale": drawn(3, 4)}},
        "across": {"Conv_0": {"kernel": drawn(3, 3, 2, 5, 2)}},
        "head": {"kernel": drawn(4, 2)},
    }
}
STACKED = {"blocks": 0, "across": -1}


def test_layers_along_an_axis_are_layers_each_by_itself():
    state = to_torch(NETWORK, stacked=STACKED)
    params = NETWORK["params"]
    for number in range(3):
        np.testing.assert_array_equal(
            state[f"blocks.{number}.dense.weight"], params["blocks"]["dense"]["kernel"][number].T
        )
        np.testing.assert_array_equal(state[f"blocks.{number}.norm.weight"], params["blocks"]["norm"]["scale"][number])
    kernel = params["across"]["Conv_0"]["kernel"]
    np.testing.assert_array_equal(state["across.1.Conv_0.weight"], kernel[..., 1].transpose(3, 2, 0, 1))
    assert len(state) == 3 * 3 + 2 + 1
    empty = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), NETWORK)
    for target in (jax.tree.map(np.zeros_like, NETWORK), empty):
        again = from_torch(state, target, stacked=STACKED)
        assert jax.tree.all(jax.tree.map(np.array_equal, again, NETWORK))


def test_names_of_stacked_layers_follow_rules():
    state = to_torch(
        NETWORK, stacked=STACKED, names=[Rule("blocks/{n}/dense/{leaf}", "encoder.layer.{n}.linear.{leaf}")]
    )
    assert state["encoder.layer.2.linear.weight"].shape == (4, 2)


@pytest.mark.parametrize(
    ("stacked", "text"),
    [
        ({"block": 0}, "block: no layers are stacked there"),
        ({"blocks": 5}, r"blocks/dense/bias: no axis 5 of layers, its shape is \(3, 4\)"),
        ({"blocks": 1}, "blocks: numbers of layers that differ: 4 in .*, 2 in"),
    ],
)
def test_stacks_that_are_none(stacked, text):
    with pytest.raises(TorchMismatchError, match=text):
        to_torch(NETWORK, stacked=stacked)


def test_a_layer_that_is_missing_is_named():
    state = to_torch(NETWORK, stacked=STACKED)
    del state["blocks.1.dense.bias"]
    with pytest.raises(TorchMismatchError) as error:
        from_torch(state, NETWORK, stacked=STACKED)
    assert error.value.missing == ("blocks/1/dense/bias (blocks.1.dense.bias)",)


TARGET = {"head": {"kernel": np.zeros((4, 2), np.float32)}}


NEWER = "parametrizations.weight."
LENGTHS = [("weight_g", "weight_v"), (NEWER + "original0", NEWER + "original1")]
VECTORS = [("weight_orig", "weight_u", "weight_v"), (NEWER + "original", NEWER + "0._u", NEWER + "0._v")]


@pytest.mark.parametrize("names", LENGTHS)
@pytest.mark.parametrize("shape", [(2, 1), (1, 4), ()])
def test_weight_normalization(names, shape):
    lengths, directions = drawn(*shape) if shape else np.float32(3), drawn(2, 4)
    state = {f"head.{names[0]}": np.asarray(lengths), f"head.{names[1]}": directions}
    axes = {(2, 1): 1, (1, 4): 0, (): None}[shape]
    expected = lengths * directions / np.linalg.norm(directions, axis=axes, keepdims=axes is not None)
    np.testing.assert_allclose(from_torch(state, TARGET)["head"]["kernel"], expected.T, rtol=1e-6)


@pytest.mark.parametrize("names", VECTORS)
def test_spectral_normalization(names):
    weight = drawn(2, 4)
    left, values, right = np.linalg.svd(weight)
    state = dict(zip([f"head.{name}" for name in names], [weight, left[:, 0], right[0]]))
    np.testing.assert_allclose(from_torch(state, TARGET)["head"]["kernel"], weight.T / values[0], rtol=1e-5)


def test_normalized_weights_that_are_not_whole():
    with pytest.raises(TorchMismatchError, match=r"unexpected: head\.weight_g"):
        from_torch({"head.weight_g": drawn(2, 1)}, TARGET)
    with pytest.raises(TorchMismatchError, match=r"lengths of shape \(3, 1\) do not belong"):
        from_torch({"head.weight_g": drawn(3, 1), "head.weight_v": drawn(2, 4)}, TARGET)
    square = {"up.weight_orig": drawn(3, 3, 2), "up.weight_u": drawn(3), "up.weight_v": drawn(6)}
    with pytest.raises(TorchMismatchError, match="more than one axis"):
        from_torch(square, {"up": {"kernel": np.zeros((2, 3, 3), np.float32)}}, layers={"*": "conv_transpose"})
