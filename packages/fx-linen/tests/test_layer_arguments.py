"""No layer takes an argument that changes nothing."""

import dataclasses
import functools
import inspect
import re

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest

pytestmark = pytest.mark.slow  # hundreds of layers, and no part of it depends on versions

X = jnp.sin(jnp.arange(2 * 3 * 4.0)).reshape(2, 3, 4)


def sevens(key, shape, dtype=jnp.float32, *_, **__):
    return jnp.full(shape, 7, dtype)


def doubled(function):
    return lambda *args, **kwargs: 2 * function(*args, **kwargs)


def plus_one(*args, dtype=None, inexact=True):
    found = nn.dtypes.promote_dtype(*args, dtype=dtype, inexact=inexact)
    return tuple(arg if arg is None else arg + 1 for arg in found)


OTHER = {
    "activation_fn": jnp.sin,
    "attention_fn": doubled(nn.dot_product_attention),
    "axis": -2,
    "axis_name": "other",
    "axis_index_groups": [[0], [1]],
    "bias_shape": None,
    "broadcast_dims": (0,),
    "cell": nn.GRUCell(4),
    "conv_general_dilated": doubled(jax.lax.conv_general_dilated),
    "dot_general": doubled(jax.lax.dot_general),
    "dot_general_cls": lambda: doubled(jax.lax.dot_general),
    "dropout_rate": 0.25,
    "dtype": jnp.float16,
    "einsum_str": "ab,bc->ca",
    "epsilon": 0.5,
    "feature_axes": -2,
    "features": 6,
    "gate_fn": jnp.sin,
    "group_size": 1,
    "input_dilation": 2,
    "kernel_dilation": 2,
    "kernel_size": (2,),
    "layer_instance": nn.Dense(3),
    "layers": [nn.Dense(3)],
    "mask": jnp.zeros((3, 4, 2)),
    "merge_fn": lambda a, b: a,
    "momentum": 0.5,
    "n_steps": 2,
    "negative_slope_init": 0.5,
    "num_embeddings": 5,
    "num_groups": 4,
    "num_heads": 4,
    "out_features": 3,
    "padding": "VALID",
    "param_dtype": jnp.float16,
    "precision": "highest",
    "preferred_element_type": jnp.float16,
    "promote_dtype": plus_one,
    "qkv_features": 8,
    "rate": 0.25,
    "reduction_axes": (-1, -2),
    "rng_collection": "noise",
    "rnn": nn.RNN(nn.GRUCell(5)),
    "shape": (4, 3),
    "strides": 2,
    "unroll": 3,
    "use_running_average": True,
    "variable_filter": {"bias"},
}
"""Another value for an argument of this name, or one that ends so; booleans and initializers are below."""

ATTENTION = {"num_heads": 2, "dropout_rate": 0.5, "deterministic": False}
CONV = {"features": 2, "kernel_size": (3,)}
CASES = {
    "BatchNorm": {"use_running_average": False},
    "Bidirectional": {"forward_rnn": nn.RNN(nn.SimpleCell(4)), "backward_rnn": nn.RNN(nn.SimpleCell(4))},
    "Conv": CONV,
    "ConvLocal": CONV,
    "ConvTranspose": CONV,
    "Dense": {"features": 2},
    "DenseGeneral": {"features": 2},
    "Dropout": {"rate": 0.5, "deterministic": False},
    "Einsum": {"shape": (4, 2), "einsum_str": "ab,bc->ac"},
    "Embed": {"num_embeddings": 4, "features": 2},
    "GRUCell": {"features": 4},
    "GroupNorm": {"num_groups": 2},
    "InstanceNorm": {},
    "LSTMCell": {"features": 4},
    "LayerNorm": {},
    "MGUCell": {"features": 4},
    "MultiHeadAttention": ATTENTION,
    "MultiHeadDotProductAttention": ATTENTION,
    "OptimizedLSTMCell": {"features": 4},
    "PReLU": {},
    "RMSNorm": {},
    "RNN": {"cell": nn.SimpleCell(4)},
    "Sequential": {"layers": [nn.Dense(2)]},
    "SimpleCell": {"features": 4},
    "SpectralNorm": {"layer_instance": nn.Dense(2)},
    "WeightNorm": {"layer_instance": nn.Dense(2)},
}
TOGETHER = {
    "force_fp32_for_softmax": {"dtype": jnp.bfloat16},
    "axis_index_groups": {"axis_name": "examples"},
    "group_size": {"num_groups": None, "group_size": 4},
    "keep_order": {"reverse": True},
}
"""What else has to be given for an argument to be looked at."""

WITHOUT = {
    ("ConvLocal", "conv_general_dilated"): "its kernel is another at each place; as in Flax",
    ("RMSNorm", "use_fast_variance"): "the mean of squares takes one pass in any case, as in Flax",
    ("RNN", "variable_carry"): "it is about cells with variables of their own",
    ("SpectralNorm", "error_on_non_matrix"): "it is about layers with other weights",
}
HALF = ("force_float32_reductions",)


def alternative(argument, default):
    if isinstance(default, bool):
        return not default
    ending = next((value for name, value in OTHER.items() if argument.endswith(f"_{name}")), sevens)
    return OTHER.get(argument, ending)


def program(name, options, x):
    """What a layer does: the program of ``init`` and ``apply`` under `jax.vmap`."""

    def call(layer, x):
        if isinstance(layer, nn.RNNCellBase):
            return layer(layer.initialize_carry(jax.random.key(0), (3, 4)), x)
        if isinstance(layer, nn.Embed):
            return layer(jnp.array([1, 2])), layer.attend(x[:, :2])
        if isinstance(layer, nn.SpectralNorm):
            return layer(x, update_stats=True)
        return layer(jnp.stack([x, x])) if isinstance(layer, (nn.RNN, nn.Bidirectional)) else layer(x)

    def run(x):
        layer = getattr(nn, name)(**options)
        rngs = {stream: jax.random.key(0) for stream in ("params", "dropout", "noise")}
        variables = layer.init(rngs, x, method=call)
        return variables, layer.apply(variables, x, method=call, rngs=rngs, mutable=True)

    try:
        found = jax.make_jaxpr(jax.vmap(run, axis_name="examples"), return_shape=True)(x)
    except Exception as error:  # an argument that makes the call fail is not without effect
        return [type(error).__name__]
    return re.sub(r"0x[0-9a-f]+", "", str(found))


@functools.cache
def plain_program(name, together, half):
    return program(name, {**CASES[name], **TOGETHER.get(together, {})}, X.astype(jnp.bfloat16) if half else X)


def arguments():
    for name, options in CASES.items():
        for field in dataclasses.fields(getattr(nn, name)):
            # An operator class is made in the layer, and is a module in most programs.
            if field.name not in ("parent", "name") and not field.name.endswith(("_einsum_cls", "_dilated_cls")):
                yield name, field.name, options.get(field.name, field.default)


@pytest.mark.parametrize(("name", "argument", "default"), [a for a in arguments() if a[:2] not in WITHOUT])
def test_every_argument_has_an_effect(name, argument, default):
    options = {**CASES[name], **TOGETHER.get(argument, {})}
    x = X.astype(jnp.bfloat16) if argument in HALF else X
    plain = plain_program(name, argument if argument in TOGETHER else None, argument in HALF)
    assert isinstance(plain, str), plain
    assert program(name, {**options, argument: alternative(argument, default)}, x) != plain


def test_all_layers_are_tried():
    layers = {name for name in nn.__all__ if inspect.isclass(kind := getattr(nn, name)) and issubclass(kind, nn.Module)}
    others = {"Module", "RNNCellBase", "ConvLSTMCell", "LoRA", "SelfAttention"}  # made of these
    assert {name for name in layers - others if not name.startswith(("Fp8", "NANOO"))} <= set(CASES)
