"""Layers by name, modules from descriptions, and descriptions of modules."""

import json

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import DescriptionError, UnknownEntryError


def rngs():
    return nnx.Rngs(0)


def cell(kind=nnx.LSTMCell):
    return kind(2, 3, rngs=rngs())


MODELS = {
    "Linear": lambda: nnx.Linear(2, 3, use_bias=False, rngs=rngs()),
    "LinearGeneral": lambda: nnx.LinearGeneral((2, 3), (4,), axis=(1, 2), batch_axis={0: 2}, rngs=rngs()),
    "Einsum": lambda: nnx.Einsum("ab,bc->ac", (2, 3), (3,), rngs=rngs()),
    "Embed": lambda: nnx.Embed(3, 4, param_dtype=jnp.bfloat16, rngs=rngs()),
    "Conv": lambda: nnx.Conv(2, 4, (3, 3), strides=2, padding="VALID", feature_group_count=2, rngs=rngs()),
    "ConvTranspose": lambda: nnx.ConvTranspose(2, 3, (3,), rngs=rngs()),
    "MultiHeadAttention": lambda: nnx.MultiHeadAttention(2, 4, dropout_rate=0.1, decode=False, rngs=rngs()),
    "MultiHeadAttention normalized": lambda: nnx.MultiHeadAttention(2, 4, normalize_qk=True, rngs=rngs()),
    "RoPE": lambda: nnx.RoPE(100.0, embedding_size=4, max_seq_len=8),
    "BatchNorm": lambda: nnx.BatchNorm(3, momentum=0.9, rngs=rngs()),
    "LayerNorm": lambda: nnx.LayerNorm(3, use_bias=False, rngs=rngs()),
    "RMSNorm": lambda: nnx.RMSNorm(3, rngs=rngs()),
    "GroupNorm": lambda: nnx.GroupNorm(4, num_groups=None, group_size=2, rngs=rngs()),
    "InstanceNorm": lambda: nnx.InstanceNorm(3, rngs=rngs()),
    "WeightNorm": lambda: nnx.WeightNorm(nnx.Linear(2, 3, rngs=rngs()), rngs=rngs()),
    "SpectralNorm": lambda: nnx.SpectralNorm(nnx.Linear(2, 3, rngs=rngs()), n_steps=2, update_stats=False, rngs=rngs()),
    "PReLU": lambda: nnx.PReLU(0.1),
    "Dropout": lambda: nnx.Dropout(0.1, rngs=rngs()),
    "LSTMCell": cell,
    "OptimizedLSTMCell": lambda: cell(nnx.OptimizedLSTMCell),
    "GRUCell": lambda: nnx.GRUCell(2, 3, gate_fn=nnx.relu, keep_rngs=True, rngs=rngs()),
    "SimpleCell": lambda: cell(nnx.SimpleCell),
    "RNN": lambda: nnx.RNN(cell(), time_major=True, rngs=rngs()),
    "Bidirectional": lambda: nnx.Bidirectional(nnx.RNN(cell(), rngs=rngs()), nnx.RNN(cell(), rngs=rngs()), rngs=rngs()),
    "LoRA": lambda: nnx.LoRA(2, 1, 3, base_module=nnx.Linear(2, 3, rngs=rngs()), rngs=rngs()),
    "LoRALinear": lambda: nnx.LoRALinear(2, 3, lora_rank=1, use_bias=False, rngs=rngs()),
    "Sequential": lambda: nnx.Sequential(nnx.Linear(2, 3, rngs=rngs()), nnx.relu, nnx.Sequential()),
}


def test_all_registered_layers_are_tried():
    from fx_core.plugins import registry

    assert {name.split()[0] for name in MODELS} == {name for name in registry().layers("nnx") if "." not in name}


@pytest.mark.parametrize("name", MODELS)
def test_a_description_makes_an_equal_module(name):
    model = MODELS[name]()
    found = json.loads(json.dumps(nnx.describe(model)))
    again = nnx.build(found, rngs=rngs())
    assert nnx.graphdef(again) == nnx.graphdef(model)
    assert jax.tree.map(jnp.shape, nnx.state(again)) == jax.tree.map(jnp.shape, nnx.state(model))
    assert nnx.describe(again) == found


def test_layers_are_made_in_the_order_of_the_description():
    found = {
        "layer": "Sequential",
        "layers": [
            {"layer": "Linear", "in_features": 2, "out_features": 3, "kernel_init": {"initializer": "he_normal"}},
            {"function": "relu"},
            {"layer": "Linear", "in_features": 3, "out_features": 1},
        ],
    }
    built, own = nnx.build(found, rngs=rngs()), rngs()
    first = nnx.Linear(2, 3, kernel_init=nnx.initializers.he_normal(), rngs=own)
    by_hand = nnx.Sequential(first, nnx.relu, nnx.Linear(3, 1, rngs=own))
    x = jnp.ones((1, 2))
    assert (built(x) == by_hand(x)).all()


def test_by_name():
    by_name = nnx.layer("Linear", in_features=2, out_features=3, rngs=rngs())
    assert (by_name.kernel[...] == nnx.Linear(2, 3, rngs=rngs()).kernel[...]).all()
    with pytest.raises(UnknownEntryError, match=r"Did you mean 'Linear'"):
        nnx.layer("Liner", in_features=2)
    with pytest.raises(DescriptionError, match=r"(?s)no parameter 'features'.*needs in_features, out_features.*rngs="):
        nnx.layer("Linear", features=2)


def test_a_class_that_is_not_registered_cannot_be_described():
    class Own(nnx.Module):
        pass

    with pytest.raises(DescriptionError, match=r"layers\[0\]: Own is no registered layer"):
        nnx.describe(nnx.Sequential(Own()))
