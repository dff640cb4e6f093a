"""Inputs and values of wrong sizes: the error names the place, what was expected and what came."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_core.errors import ArgumentError, DtypeError, ShapeMismatchError
from fx_nnx.errors import NnxError


class Holder(nnx.Module):
    def __init__(self, layer):
        self.layer = layer


def rngs():
    return nnx.Rngs(0)


def gru():
    return nnx.GRUCell(3, 4, rngs=rngs())


def attention():
    return nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs())


one = jnp.ones
norm_mask = {"mask": one((5, 3), bool)}

CASES = {
    "linear": (lambda: nnx.Linear(3, 4, rngs=rngs()), [(2, 5)], {}, ShapeMismatchError, r"3 features.*\(2, 5\)"),
    "general": (
        lambda: nnx.LinearGeneral((3, 4), 5, axis=(-2, -1), rngs=rngs()),
        [(2, 3, 5)],
        {},
        ShapeMismatchError,
        r"sizes \(3, 4\) in the axes \(1, 2\).*\(2, 3, 5\)",
    ),
    "general-batch": (
        lambda: nnx.LinearGeneral(3, 5, batch_axis={0: 2}, rngs=rngs()),
        [(3, 3)],
        {},
        ShapeMismatchError,
        r"sizes \(2, 3\) in the axes \(0, 1\).*\(3, 3\)",
    ),
    "general-rank": (
        lambda: nnx.LinearGeneral((3, 4), 5, axis=(-2, -1), rngs=rngs()),
        [(2,)],
        {},
        ShapeMismatchError,
        "1 dimensions",
    ),
    "einsum": (
        lambda: nnx.Einsum("nta,hab->nthb", (8, 2, 4), (8, 4), rngs=rngs()),
        [(2, 3, 5)],
        {},
        ShapeMismatchError,
        r"2 in axis 2.*\(2, 3, 5\)",
    ),
    "einsum-rank": (
        lambda: nnx.Einsum("nta,hab->nthb", (8, 2, 4), rngs=rngs()),
        [(2, 3)],
        {},
        ArgumentError,
        "names 3 dimensions of an operand that has 2",
    ),
    "einsum-bias": (
        lambda: nnx.Einsum("nta,hab->nthb", (8, 2, 4), (8, 3), rngs=rngs()),
        [(2, 3, 2)],
        {},
        ShapeMismatchError,
        r"bias.*\(8, 4\).*\(8, 3\)",
    ),
    "embed": (lambda: nnx.Embed(3, 4, rngs=rngs()), [(2,)], {}, DtypeError, "integers.*float32"),
    "axes": (
        lambda: nnx.LayerNorm(3, feature_axes=(-2, -1), reduction_axes=(-2, -1), rngs=rngs()),
        [(2, 4, 4)],
        {},
        ShapeMismatchError,
        r"3 features in axes \(-2, -1\).*\(2, 4, 4\)",
    ),
    "batch-mask": (
        lambda: nnx.BatchNorm(3, rngs=rngs()),
        [(2, 3)],
        norm_mask,
        ShapeMismatchError,
        r"\(2, 3\).*\(5, 3\)",
    ),
    "layer-mask": (
        lambda: nnx.LayerNorm(3, rngs=rngs()),
        [(2, 3)],
        norm_mask,
        ShapeMismatchError,
        r"\(2, 3\).*\(5, 3\)",
    ),
    "rms-mask": (lambda: nnx.RMSNorm(3, rngs=rngs()), [(2, 3)], norm_mask, ShapeMismatchError, r"\(2, 3\).*\(5, 3\)"),
    "group-mask": (
        lambda: nnx.GroupNorm(6, num_groups=3, rngs=rngs()),
        [(2, 6)],
        norm_mask,
        ShapeMismatchError,
        r"\(2, 6\).*\(5, 3\)",
    ),
    "attention-rank": (attention, [(4,)], {}, ShapeMismatchError, r"inputs_q has no axis of tokens.*\(4,\)"),
    "attention-keys": (attention, [(2, 3, 4), (2, 3, 5)], {}, ShapeMismatchError, r"inputs_k.*4 features.*\(2, 3, 5\)"),
    "attention-values": (attention, [(2, 3, 4), (2, 5, 4), (2, 6, 4)], {}, ShapeMismatchError, "length"),
    "carry": (gru, [(2, 5), (2, 3)], {}, ShapeMismatchError, "4 features.*5"),
    "carry-batch": (gru, [(3, 4), (2, 3)], {}, ShapeMismatchError, r"\(2, 4\).*\(3, 4\)"),
    "cell-input": (gru, [(2, 4), (2, 5)], {}, ShapeMismatchError, r"3 features.*\(2, 5\)"),
    "dropout": (
        lambda: nnx.Dropout(0.5, broadcast_dims=(5,), rngs=rngs()),
        [(2, 3)],
        {},
        ShapeMismatchError,
        "broadcast_dims",
    ),
    "lora": (
        lambda: nnx.LoRA(3, 2, 4, base_module=nnx.Linear(3, 5, rngs=rngs()), rngs=rngs()),
        [(2, 3)],
        {},
        NnxError,
        r"\(2, 4\).*\(2, 5\)",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_sizes(case):
    make, shapes, options, error, text = CASES[case]
    model = Holder(make())
    with pytest.raises(error, match=f"(?s){text}") as caught:
        model.layer(*map(one, shapes), **options)
    assert "\n  where: Holder/layer\n" in str(caught.value)
    assert "\n  what to do: " in str(caught.value)


def test_layers_inside_layers_say_where_they_are():
    model = Holder(nnx.RNN(gru()))
    with pytest.raises(ShapeMismatchError, match="where: Holder/layer: GRUCell"):
        model.layer(one((2, 5, 4)))
    with pytest.raises(ShapeMismatchError, match="where: Holder/layer: GRUCell"):
        model.layer(one((2, 5, 3)), initial_carry=one((3, 4)))
    normed = Holder(nnx.WeightNorm(nnx.Linear(3, 4, rngs=rngs()), rngs=rngs()))
    with pytest.raises(ShapeMismatchError, match="where: Holder/layer: Linear"):
        normed.layer(one((2, 5)))


def test_long_carries_of_lstms():
    cell = nnx.LSTMCell(3, 4, rngs=rngs())
    with pytest.raises(ShapeMismatchError, match="an LSTM does not have the batch"):
        cell((one((2, 4)), one((3, 4))), one((2, 3)))
    assert cell((one((1, 4)), one((1, 4))), one((2, 3)))[1].shape == (2, 4)


@pytest.mark.parametrize("size", ["3", -1, 2.5])
def test_sizes_that_make_no_shape(size):
    with pytest.raises(ArgumentError, match="integers that are not negative"):
        nnx.Linear(size, 4, rngs=rngs())


def test_lists_are_arrays_and_others_are_not():
    layer = nnx.Linear(3, 4, rngs=rngs())
    assert layer([[1.0, 2.0, 3.0]]).shape == (1, 4)
    assert nnx.LayerNorm(3, use_scale=False, use_bias=False, rngs=rngs())([1.0, 2.0, 3.0]).shape == (3,)
    for wrong in (None, "abc", {"a": 1}, [[1.0], [1.0, 2.0]]):
        with pytest.raises(ShapeMismatchError, match="the input is no array"):
            layer(wrong)


def test_features_over_several_axes():
    norm = nnx.LayerNorm(
        6, feature_axes=(-1, -2), reduction_axes=(-2, -1), scale_init=lambda *_: jnp.arange(6.0), rngs=rngs()
    )
    x = jax.random.normal(jax.random.key(0), (4, 2, 3))
    plain = nnx.LayerNorm(6, feature_axes=-1, use_scale=False, rngs=rngs())(x.reshape(4, 6))
    assert jnp.allclose(norm(x), (plain * jnp.arange(6.0)[None]).reshape(4, 2, 3), atol=1e-5)


def test_values_that_do_not_fit_a_reference():
    model = Holder(nnx.Param(one((2, 3)), ref=True))
    weight = model.layer
    for wrong, got in (
        (one((3, 2)), r"float32 of shape \(3, 2\)"),
        (one((2, 3), int), r"int32 of shape \(2, 3\)"),
        (1.0, r"float32 of shape \(\)"),
        (None, "None"),
    ):
        with pytest.raises(NnxError, match=rf"(?s)Holder/layer.*float32 of shape \(2, 3\)\n  got: {got}"):
            weight[...] = wrong
    with pytest.raises(NnxError, match="cannot be held by a reference"):
        nnx.Param({"a": 1}, ref=True)
    weight[...] = jnp.zeros((2, 3))
    assert not weight.any()


@pytest.mark.parametrize("ref", [False, True])
def test_values_that_do_not_fit_a_part(ref):
    model = Holder(nnx.Param(one((2, 3)), ref=ref))
    with pytest.raises(NnxError, match=r"(?s)place \[0\].*Holder/layer.*shape \(3,\)\n  got: float32 of shape \(4,\)"):
        model.layer[0] = one(4)
    with pytest.raises(IndexError, match="Too many indices"):
        model.layer[0, 0, 0] = 1.0
    model.layer[0] = 0.0
    assert model.layer[...].sum() == 3
