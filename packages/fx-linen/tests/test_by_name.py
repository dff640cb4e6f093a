"""Layers by name, modules from descriptions, and descriptions of modules."""

import json

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import DescriptionError, UnknownEntryError
from fx_core.plugins import registry

NEEDED = {
    "BatchNorm": {},
    "Bidirectional": {
        "forward_rnn": {"layer": "RNN", "cell": {"layer": "LSTMCell", "features": 2}},
        "backward_rnn": {"layer": "RNN", "cell": {"layer": "GRUCell", "features": 2}},
    },
    "Conv": {"features": 2, "kernel_size": [3], "padding": [[1, 1]]},
    "ConvLSTMCell": {"features": 2, "kernel_size": [3]},
    "ConvLocal": {"features": 2, "kernel_size": [3]},
    "ConvTranspose": {"features": 2, "kernel_size": [3]},
    "DenseGeneral": {"features": [2, 3], "axis": [-2, -1]},
    "Dropout": {"rate": 0.5},
    "Einsum": {"shape": [2, 3], "einsum_str": "ab,bc->ac"},
    "Embed": {"num_embeddings": 3, "features": 2},
    "MultiHeadAttention": {"num_heads": 2},
    "MultiHeadDotProductAttention": {"num_heads": 2},
    "SelfAttention": {"num_heads": 2},
    "LoRA": {"lora_rank": 2, "base_module": {"layer": "Dense", "features": 3}},
    "RNN": {"cell": {"layer": "OptimizedLSTMCell", "features": 2, "gate_fn": {"function": "relu"}}},
    "Sequential": {"layers": [{"layer": "Dense", "features": 2, "name": "first"}, {"function": "gelu"}]},
    "SpectralNorm": {"layer_instance": {"layer": "Dense", "features": 2}},
    "WeightNorm": {"layer_instance": {"layer": "Dense", "features": 2}, "feature_axes": [-1]},
    **{
        name: {"features": 2} for name in ("Dense", "GRUCell", "LSTMCell", "MGUCell", "OptimizedLSTMCell", "SimpleCell")
    },
}


@pytest.mark.parametrize("name", sorted(name for name in registry().layers("linen") if "." not in name))
def test_a_description_makes_an_equal_module(name):
    found = {"layer": name, **NEEDED.get(name, {})}
    module = nn.build(found)
    assert type(module) is getattr(nn, name)
    described = nn.describe(module)
    # A layer with two names is described by the first.
    assert getattr(nn, described["layer"]) is getattr(nn, name)
    assert {**described, "layer": name} == found
    assert nn.build(json.loads(json.dumps(described))) == module


def test_it_computes_what_the_same_module_by_hand_does():
    found = {
        "layer": "Sequential",
        "layers": [
            {"layer": "Dense", "features": 3, "kernel_init": {"initializer": "normal", "stddev": 0.1}},
            {"function": "tanh"},
            {"layer": "Dense", "features": 1, "dtype": "bfloat16"},
        ],
    }
    by_hand = nn.Sequential(
        [nn.Dense(3, kernel_init=nn.initializers.normal(0.1)), nn.tanh, nn.Dense(1, dtype=jnp.bfloat16)]
    )
    x, key = jnp.ones((2, 4)), jax.random.key(0)
    ours, theirs = (module.init_with_output(key, x) for module in (nn.build(found), by_hand))
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def test_by_name():
    assert nn.layer("Dense", features=3, use_bias=False) == nn.Dense(3, use_bias=False)
    with pytest.raises(UnknownEntryError, match=r"Did you mean 'Dense'\? fx-linen is there and has none of that name"):
        nn.layer("Dens", features=3)
    with pytest.raises(DescriptionError, match=r"(?s)Did you mean 'features'.*needs features"):
        nn.layer("Dense", feature=3)


def test_a_module_in_compact_can_be_named():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.layer("Dense", features=2, name="head")(x)

    assert "head" in Net().init(jax.random.key(0), jnp.ones((1, 2)))["params"]


def test_a_module_with_functions_of_the_users_cannot_be_described():
    with pytest.raises(DescriptionError, match=r"layers\[0\]: <lambda> is no registered layer, no function"):
        nn.describe(nn.Sequential([lambda x: x]))
