"""Layers of both faces with weights of PyTorch compute what its modules did; the file with both was made by PyTorch."""

from pathlib import Path

import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_layers
from fx_core.renaming import Rule
from fx_export.torch import from_torch, read_pt, to_torch

RECORDS = read_pt(Path(__file__).with_name("torch_modules.pt"))
# Linen calls the cells of a recurrent layer after their class.
LINEN_NAMES = {
    "LSTM": [Rule("LSTMCell_0/{leaf}", "{leaf}_l0")],
    "GRU": [Rule("GRUCell_0/{leaf}", "{leaf}_l0")],
    "RNN": [Rule("SimpleCell_0/{leaf}", "{leaf}_l0")],
    "BidirectionalLSTM": [
        Rule("OptimizedLSTMCell_0/{leaf}", "{leaf}_l0"),
        Rule("OptimizedLSTMCell_1/{leaf}", "{leaf}_l0_reverse"),
    ],
}


def computed(name, layer, inputs):
    inputs = [torch_layers.last(x) if torch_layers.features_second(name) else jnp.asarray(x) for x in inputs]
    result = layer(*inputs)
    return torch_layers.first(result) if torch_layers.features_second(name) else result


def kinds(name):
    if not name.startswith("Conv"):
        return {}
    return {"": torch_layers.KINDS.get(name, "conv_transpose" if "Transpose" in name else "conv")}


def weights(name):
    """The state, where a GRU of NNX has no bias inside of its product: PyTorch's is set to zero."""
    state = dict(RECORDS[name]["state"])
    if name == "GRU":
        state["bias_hh_l0"] = np.concatenate([state["bias_hh_l0"][:8], np.zeros(4, np.float32)])
    return state


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", RECORDS)
def test_linen(name):
    record, model = RECORDS[name], torch_layers.LINEN[name]()
    inputs = record["inputs"]
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), *map(jnp.asarray, _first_call(name, inputs))))
    options = {"layers": kinds(name), "names": LINEN_NAMES.get(name, ())}
    variables = from_torch(record["state"], like, **options)
    close(computed(name, lambda *x: model.apply(variables, *x), inputs), record["output"])
    _same_state(to_torch(variables, **options), record["state"])


@pytest.mark.parametrize("name", RECORDS)
def test_nnx(name):
    record, state = RECORDS[name], weights(name)
    model = torch_layers.NNX[name](nnx.Rngs(0))
    assert from_torch(state, model) is model
    if name != "GRU":
        close(computed(name, model, record["inputs"]), record["output"])
    _same_state(to_torch(model), state)
    split = nnx.state(model)
    options = {} if not name.startswith("Conv") else {"layers": {"": to_kind(model)}}
    again = from_torch(state, split, **options)
    assert jax.tree.all(jax.tree.map(np.array_equal, nnx.state(model, nnx.Param), nnx.filter_state(again, nnx.Param)))


def to_kind(layer):
    return {"Conv": "conv"}.get(type(layer).__name__) or "conv_transpose" + "_of" * layer.transpose_kernel


def _first_call(name, inputs):
    return [torch_layers.last(x) for x in inputs] if torch_layers.features_second(name) else inputs


def _same_state(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert (ours[name].shape, ours[name].dtype) == (array.shape, array.dtype)
        if not name.startswith("bias_"):
            np.testing.assert_array_equal(ours[name], array)
    for name in [name for name in theirs if name.startswith("bias_ih")]:
        # Two biases there are one here.
        other = name.replace("ih", "hh")
        close(ours[name] + ours[other], theirs[name] + theirs[other])


def test_biases_that_do_not_fit_a_gru_of_nnx_are_reported():
    with pytest.raises(ValueError, match="bias_hh_l0: a part is not zero that the layer here does not have"):
        from_torch(RECORDS["GRU"]["state"], torch_layers.NNX["GRU"](nnx.Rngs(0)))


def test_stacked_layers_of_both_faces_are_layers_each_by_itself():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.up = nnx.ConvTranspose(2, 3, (2, 2), rngs=rngs)

    class Stack(nnx.Module):
        def __init__(self, rngs):
            self.blocks = nnx.vmap(Block)(rngs.fork(split=3))

    module = Stack(nnx.Rngs(0))
    state = to_torch(module, stacked={"blocks": 0})
    alone = to_torch(jax.tree.map(lambda x: x[1], nnx.state(module.blocks, nnx.Param)), layers={"*": "conv_transpose"})
    np.testing.assert_array_equal(state["blocks.1.up.weight"], alone["up.weight"])
    again = from_torch(state, Stack(nnx.Rngs(1)), stacked={"blocks": 0})
    assert jax.tree.all(jax.tree.map(np.array_equal, nnx.state(again, nnx.Param), nnx.state(module, nnx.Param)))

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return layer(name="layers")(x, None)[0]

    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(2)(x), None

    variables = Layers().init(jax.random.key(0), jnp.ones((1, 2)))
    kernels = variables["params"]["layers"]["Dense_0"]["kernel"]
    state = to_torch(variables, stacked={"layers": 0})
    np.testing.assert_array_equal(state["layers.2.Dense_0.weight"], kernels[2].T)


class NormalizedNNX(nnx.Module):
    def __init__(self, rngs, normalized=True):
        lengths, largest = (nnx.WeightNorm, nnx.SpectralNorm) if normalized else (_alone, _alone)
        self.up = lengths(nnx.ConvTranspose(2, 3, (2,), rngs=rngs), rngs=rngs)
        self.conv = largest(nnx.Conv(3, 4, (2,), rngs=rngs), rngs=rngs)
        self.out = lengths(nnx.Linear(4, 4, rngs=rngs), rngs=rngs)

    def __call__(self, x):
        return self.out(self.conv(self.up(x)))


class NormalizedLinen(nn.Module):
    normalized: bool = True

    @nn.compact
    def __call__(self, x):
        x = self.lengths(nn.ConvTranspose(3, (2,), name="up"))(x)
        conv = nn.Conv(4, (2,), name="conv")
        x = nn.SpectralNorm(conv, n_steps=30)(x, update_stats=self.normalized) if self.normalized else conv(x)
        return self.lengths(nn.Dense(4, name="out"))(x)

    def lengths(self, layer):
        return nn.WeightNorm(layer) if self.normalized else layer


def _alone(layer, *, rngs):
    return layer


@pytest.mark.parametrize("normalization", ["hooks", "parametrizations"])
def test_normalized_layers_of_nnx(normalization):
    x = jnp.linspace(-1, 1, 12).reshape(1, 6, 2)
    module = NormalizedNNX(nnx.Rngs(0))
    nnx.update(module, jax.tree.map(lambda x: x * 1.5 + 0.1, nnx.state(module, nnx.Param)))
    for _ in range(30):
        module(x)
    module.eval()
    state = to_torch(module, normalization=normalization)
    again = from_torch(state, NormalizedNNX(nnx.Rngs(1)))
    assert jax.tree.all(jax.tree.map(np.array_equal, nnx.state(again, nnx.Param), nnx.state(module, nnx.Param)))
    np.testing.assert_array_equal(again.conv.batch_stats["kernel", "u"], module.conv.batch_stats["kernel", "u"])
    # A network without the normalizations gets the weights that PyTorch computes with.
    plain = from_torch(state, NormalizedNNX(nnx.Rngs(2), normalized=False))
    close(plain(x), module(x))
    kinds = {"up": "conv_transpose", "conv": "conv"}
    split = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
    assert to_torch(split, layers=kinds, normalization=normalization).keys() == state.keys()


def test_normalized_layers_of_linen():
    x = jnp.linspace(-1, 1, 12).reshape(1, 6, 2)
    model, kinds = NormalizedLinen(), {"up": "conv_transpose", "conv": "conv"}
    variables = model.init(jax.random.key(0), x)
    for _ in range(3):
        expected, stats = model.apply(variables, x, mutable=["batch_stats"])
        variables = {**variables, **stats}
    state = to_torch(variables, layers=kinds)
    again = from_torch(state, jax.tree.map(jnp.zeros_like, variables), layers=kinds)
    jax.tree.map(close, again, variables)
    plain = NormalizedLinen(normalized=False)
    like = jax.eval_shape(plain.init, jax.random.key(0), x)
    close(plain.apply(from_torch(state, like, layers=kinds), x), expected)


def test_lengths_that_are_not_learned_have_no_form():
    layer = nnx.WeightNorm(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), use_scale=False, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="not learned"):
        to_torch({"net": layer})
