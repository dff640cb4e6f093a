"""No layer takes an argument that changes nothing."""

import inspect

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_nnx import layers

pytestmark = pytest.mark.slow  # hundreds of layers, and no part of it depends on versions

X = jnp.sin(jnp.arange(2 * 3 * 4.0)).reshape(2, 3, 4)
IMAGES = jnp.sin(jnp.arange(2 * 5 * 4.0)).reshape(2, 1, 5, 4)


def sevens(key, shape, dtype=jnp.float32, **_):
    return jnp.full(shape, 7, dtype)


def plus_one(args, /, *, dtype=None, inexact=True):
    return tuple(
        arg if arg is None else arg + 1 for arg in nnx.layers.promote_dtype(args, dtype=dtype, inexact=inexact)
    )


def doubled(function):
    return lambda *args, **kwargs: 2 * function(*args, **kwargs)


class Special(nnx.Param):
    pass


def linear(**options):
    return nnx.Linear(4, 4, rngs=nnx.Rngs(1), **options)


def of_batch(layer, x):
    return layer(jnp.stack([x, x]))


OTHER = {
    "activation_fn": jnp.sin,
    "attention_fn": doubled(nnx.dot_product_attention),
    "batch_axis": {0: 3},
    "carry_init": sevens,
    "conv_general_dilated": doubled(jax.lax.conv_general_dilated),
    "deterministic": True,
    "dot_general": doubled(jax.lax.dot_general),
    "dot_general_cls": lambda: doubled(jax.lax.dot_general),
    "dtype": jnp.float16,
    "einsum_op": doubled(jnp.einsum),
    "epsilon": 0.5,
    "gate_fn": jnp.sin,
    "merge_fn": lambda a, b: a,
    "normalize_qk": True,
    "negative_slope_init": 0.5,
    "param_dtype": jnp.float16,
    "precision": "highest",
    "preferred_element_type": jnp.float16,
    "promote_dtype": plus_one,
    "strides": 2,
    "theta": 100.0,
}
"""Another value for an argument of this name, or one that ends so; booleans, initializers and metadata are below."""

ENDINGS = ("dot_general_cls", "dot_general", "promote_dtype", "param_dtype", "dtype")

CELL = (
    {"in_features": 4, "hidden_features": 4},
    lambda cell, x: cell(cell.initialize_carry((3, 4), nnx.Rngs(0)), x),
    {"in_features": 5, "hidden_features": 5, "keep_rngs": True},
)
NORM = {"reduction_axes": (-1, -2), "feature_axes": -2, "num_features": 5, "axis_name": "examples"}
RNN_OPTIONS = {"time_major": True, "return_carry": True}

CASES = {
    "BatchNorm": ({"num_features": 4}, None, {**NORM, "axis": -2, "momentum": 0.5}),
    "Bidirectional": (
        {
            "forward_rnn": nnx.RNN(nnx.SimpleCell(4, 4, rngs=nnx.Rngs(0))),
            "backward_rnn": nnx.RNN(nnx.SimpleCell(4, 4, rngs=nnx.Rngs(2))),
        },
        of_batch,
        {
            "forward_rnn": nnx.RNN(nnx.GRUCell(4, 4, rngs=nnx.Rngs(0))),
            "backward_rnn": nnx.RNN(nnx.GRUCell(4, 4, rngs=nnx.Rngs(0))),
            **RNN_OPTIONS,
        },
    ),
    "Conv": (
        {"in_features": 4, "out_features": 2, "kernel_size": 3},
        None,
        {
            "in_features": 5,
            "out_features": 4,
            "kernel_size": 2,
            "padding": "VALID",
            "input_dilation": 2,
            "kernel_dilation": 2,
            "feature_group_count": 2,
            "mask": jnp.zeros((3, 4, 2)),
        },
    ),
    "ConvTranspose": (
        {"in_features": 4, "out_features": 2, "kernel_size": 3},
        None,
        {
            "in_features": 5,
            "out_features": 4,
            "kernel_size": 2,
            "padding": "VALID",
            "kernel_dilation": 2,
            "mask": jnp.zeros((3, 4, 2)),
        },
    ),
    "Dropout": (
        {"rate": 0.5, "rngs": nnx.Rngs(0, noise=1)},
        None,
        {"rate": 0.25, "broadcast_dims": (0,), "rng_collection": "noise"},
    ),
    "Einsum": (
        {"einsum_str": "ab,bc->ac", "kernel_shape": (4, 2), "bias_shape": (2,)},
        None,
        {"einsum_str": "ab,bc->ca", "kernel_shape": (4, 3), "bias_shape": None},
    ),
    "Embed": (
        {"num_embeddings": 4, "features": 2},
        lambda layer, x: (layer(jnp.array([1, 2])), layer.attend(x[:, :2])),
        {"num_embeddings": 5, "features": 3},
    ),
    "GRUCell": CELL,
    "GroupNorm": (
        {"num_features": 4, "num_groups": 2},
        None,
        {**NORM, "num_groups": 4, "group_size": 2, "reduction_axes": (0, -1)},
    ),
    "InstanceNorm": ({"num_features": 4}, None, NORM),
    "LSTMCell": CELL,
    "LayerNorm": ({"num_features": 4}, None, NORM),
    "Linear": ({"in_features": 4, "out_features": 2}, None, {"in_features": 5, "out_features": 3}),
    "LinearGeneral": ({"in_features": 4, "out_features": 2}, None, {"in_features": 5, "out_features": 3, "axis": (0,)}),
    "LoRA": (
        {"in_features": 4, "lora_rank": 2, "out_features": 4, "base_module": linear()},
        None,
        {"in_features": 5, "lora_rank": 1, "out_features": 5, "base_module": None, "lora_param_type": Special},
    ),
    "LoRALinear": (
        {"in_features": 4, "lora_rank": 2, "out_features": 4},
        None,
        {"in_features": 5, "lora_rank": 1, "out_features": 3, "lora_param_type": Special},
    ),
    "MultiHeadAttention": (
        {
            "num_heads": 2,
            "in_features": 4,
            "decode": False,
            "deterministic": False,
            "normalize_qk": True,
            "dropout_rate": 0.5,
        },
        None,
        {
            "num_heads": 4,
            "in_features": 5,
            "qkv_features": 8,
            "out_features": 3,
            "num_kv_heads": 1,
            "in_kv_features": 5,
            "dropout_rate": 0.25,
            "normalize_qk": False,
            "decode": None,
            "keep_rngs": False,
            "out_kernel_init": sevens,
            "out_bias_init": sevens,
        },
    ),
    "OptimizedLSTMCell": CELL,
    "PReLU": ({}, None, {}),
    "RMSNorm": ({"num_features": 4}, None, NORM),
    "RNN": (
        {"cell": nnx.SimpleCell(4, 4, rngs=nnx.Rngs(0))},
        of_batch,
        {**RNN_OPTIONS, "cell": nnx.GRUCell(4, 4, rngs=nnx.Rngs(0)), "reverse": True, "unroll": 3},
    ),
    "RoPE": (
        {"embedding_size": 4, "max_seq_len": 8},
        lambda layer, x: layer(x, jnp.arange(3)),
        {"embedding_size": 2, "max_seq_len": 7, "theta": 100.0},
    ),
    "SimpleCell": CELL,
    "SpectralNorm": (
        {"layer_instance": linear()},
        None,
        {
            "layer_instance": nnx.Conv(4, 4, 1, rngs=nnx.Rngs(0)),
            "n_steps": 2,
            "error_on_non_matrix": True,
            "update_stats": False,
        },
    ),
    "WeightNorm": (
        {"layer_instance": linear(), "feature_axes": -1},
        None,
        {
            "layer_instance": nnx.Conv(4, 4, 1, rngs=nnx.Rngs(0)),
            "feature_axes": None,
            "variable_filter": nnx.PathContains("bias"),
        },
    ),
}

WITHOUT = {
    ("RMSNorm", "use_fast_variance"): "the mean of squares takes one pass in any case, as in Flax",
    ("SpectralNorm", "error_on_non_matrix"): "it is about layers with other weights; tested with those",
    ("RNN", "broadcast_rngs"): "it is about cells that draw; tested with those",
    ("MultiHeadAttention", "keep_rngs"): "it is about calls that bring no stream; tested with those",
}
TOGETHER = {
    "axis_index_groups": {"axis_name": "examples"},
    "group_size": {"num_groups": None, "group_size": 4},
    "keep_order": {"reverse": True},
    "key_ln_scale_metadata": {"normalize_qk": True},
}
"""What else has to be given for an argument to be looked at."""


def alternative(name, special, default):
    if name in special:
        return special[name]
    if name.endswith("_metadata"):
        return {"tag": "other"}
    if name.endswith(("_init", "_initializer")) and name not in OTHER:
        return sevens
    ending = next((OTHER[ending] for ending in ENDINGS if name.endswith(ending)), None)
    if name not in OTHER and ending is not None:
        return ending
    return OTHER.get(name, not default)


def fingerprint(name, options, call):
    """What a layer is and does: the structure and values of its state, and the program of a call under `jax.vmap`."""
    kind = getattr(layers, name)
    if "rngs" in inspect.signature(kind.__init__).parameters and "rngs" not in options:
        options = {**options, "rngs": nnx.Rngs(0)}
    try:
        layer = kind(**options)
        graphdef, state = nnx.split(layer)

        def apply(state, x):
            layer = nnx.merge(graphdef, state, copy=True)
            return call(layer, x) if call else layer(x), nnx.as_pure(nnx.state(layer))

        program = jax.make_jaxpr(jax.vmap(apply, (None, 0), axis_name="examples"))(nnx.as_pure(state), X)
    except Exception as error:  # an argument that makes the call fail is not without effect
        return type(error).__name__
    found = [(path, type(leaf).__name__, getattr(leaf, "tag", None)) for path, leaf in state.flat_state()]
    values = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(state)
    ]
    return str(program), repr(found), repr([(v.dtype, v.tolist()) for v in values])


def arguments():
    for name in layers.__all__:
        kind = getattr(layers, name)
        if inspect.isclass(kind) and issubclass(kind, nnx.Module) and name != "RNNCellBase":
            for argument, parameter in inspect.signature(kind.__init__).parameters.items():
                if argument not in ("self", "rngs") and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    yield name, argument, parameter.default


@pytest.mark.parametrize(("name", "argument", "default"), [a for a in arguments() if a[:2] not in WITHOUT])
def test_every_argument_has_an_effect(name, argument, default):
    options, call, special = CASES[name]
    options = {**options, **TOGETHER.get(argument, {})} if argument in TOGETHER else options
    plain = fingerprint(name, options, call)
    assert not isinstance(plain, str), plain
    assert fingerprint(name, {**options, argument: alternative(argument, special, default)}, call) != plain
