"""Layers with weights of PyTorch in forms that the recorded modules do not have, against PyTorch's formulas."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.renaming import Rule
from fx_export.torch import from_torch, to_torch

RANDOM = np.random.default_rng(0)


def drawn(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def computed(model, state, *inputs, **options):
    """What a model computes with a state, which it gives back as it was."""
    variables = from_torch(state, jax.eval_shape(model.init, jax.random.key(0), *inputs), **options)
    again = to_torch(variables, **options)
    assert again.keys() == state.keys()
    for name in state:
        np.testing.assert_array_equal(again[name], state[name])
    return jax.jit(model.apply)(variables, *inputs)


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_depthwise_convolutions_without_bias():
    x, weight = drawn(2, 7, 3), drawn(6, 1, 2)
    # Each feature has two outputs, which are neighbors.
    seen = np.stack([x[:, place : place + 3 : 2] for place in (0, 3)], -1).repeat(2, 2)
    layer = nn.Conv(6, (2,), (2,), kernel_dilation=3, feature_group_count=3, use_bias=False, padding="VALID")
    close(computed(layer, {"weight": weight}, x, layers={"": "conv"}), (seen * weight[:, 0]).sum(-1))


@pytest.mark.parametrize("separate", [False, True])
def test_attention_without_biases_over_other_features(separate):
    inputs = [drawn(1, 4, 6), drawn(1, 3, 5), drawn(1, 3, 7)]
    names = ["{}_proj.weight" if separate else "{}_proj_weight"] * 3
    state = {name.format(n): drawn(6, x.shape[-1]) for name, n, x in zip(names, "qkv", inputs)}
    query, key, value = (x[0] @ w.T for x, w in zip(inputs, state.values()))
    state["out_proj.weight"] = drawn(6, 6)
    halves = []
    for half in (slice(0, 3), slice(3, 6)):
        weights = np.exp(query[:, half] @ key[:, half].T / np.sqrt(3))
        halves.append(weights / weights.sum(-1, keepdims=True) @ value[:, half])
    expected = np.concatenate(halves, -1) @ state["out_proj.weight"].T
    layer = nn.MultiHeadDotProductAttention(2, use_bias=False)
    close(computed(layer, state, *inputs, layers={"": "attention_separate"} if separate else {})[0], expected)


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.Bidirectional(nn.RNN(nn.OptimizedLSTMCell(2)), nn.RNN(nn.OptimizedLSTMCell(2)))(x)
        return x


def lstm(x, weight_ih, weight_hh, bias):
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    hidden = carried = np.zeros(2)
    for row in x:
        i, f, g, o = np.split(weight_ih @ row + weight_hh @ hidden + bias, 4)
        carried = sigmoid(f) * carried + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(carried)
        yield hidden


def test_stacked_bidirectional_layers_of_cells():
    """As many inputs as outputs, so that shapes tell neither layers nor directions apart."""
    x = expected = drawn(3, 2)
    ends, state, names = ["l0", "l0_reverse", "l1", "l1_reverse"], {}, []
    for number, end in enumerate(ends):
        first = {"weight_ih": drawn(8, expected.shape[1]), "weight_hh": drawn(8, 2)}
        state |= {f"{k}_{end}": v for k, v in first.items()}
        state |= {f"bias_ih_{end}": drawn(8), f"bias_hh_{end}": np.zeros(8, np.float32)}
        names.append(Rule(f"OptimizedLSTMCell_{number}/{{leaf}}", f"{{leaf}}_{end}"))
        if number % 2:
            parts = [
                [state[f"{k}_{e}"] for k in ("weight_ih", "weight_hh", "bias_ih")]
                for e in ends[number - 1 : number + 1]
            ]
            there, back = list(lstm(expected, *parts[0])), list(lstm(expected[::-1], *parts[1]))[::-1]
            expected = np.concatenate([there, back], -1)
    close(computed(Stack(), state, x[None], names=names)[0], expected)


def test_flattened_images_have_other_rows():
    """What the documentation says about linear layers after images: features come before places in PyTorch."""
    x, weight = drawn(1, 4, 2, 3), drawn(2, 24)
    params = from_torch({"weight": weight}, {"kernel": np.zeros((24, 2), np.float32)})
    here = jnp.moveaxis(x, 1, -1)
    close(here.transpose(0, 3, 1, 2).reshape(1, -1) @ params["kernel"], x.reshape(1, -1) @ weight.T)
