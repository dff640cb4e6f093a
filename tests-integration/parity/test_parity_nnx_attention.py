"""Attention, recurrent cells, adapters and weight norms of fx_nnx against those of Flax, same seed."""

import flax.nnx as flax_nnx
import fx_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Newer releases of Flax speak out against parts of their interface.
pytestmark = pytest.mark.filterwarnings(
    "ignore:keep_rngs argument", "ignore:carry_init is provided", "ignore:Using 'Module.sow"
)

X = np.linspace(-1, 2, 2 * 4 * 8, dtype=np.float32).reshape(2, 4, 8)
KV = np.linspace(2, -1, 2 * 5 * 6, dtype=np.float32).reshape(2, 5, 6)
CAUSAL = np.tril(np.ones((1, 1, 4, 4), bool))


def arrays(nnx, model):
    pure = nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Intermediate)))
    unwrap = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    return {jax.tree_util.keystr(path): np.asarray(unwrap(x)) for path, x in jax.tree_util.tree_leaves_with_path(pure)}


def same(theirs, ours):
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(value, ours[name], err_msg=name, strict=True)


def near(theirs, ours, tolerance=1e-6):
    def check(a, b):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), tolerance, tolerance)

    jax.tree.map(check, theirs, ours)


HEADS = {
    "plain": ({}, {}),
    "no-bias": ({"use_bias": False}, {}),
    "features": ({"qkv_features": 12, "out_features": 5}, {}),
    "normalize": ({"normalize_qk": True}, {}),
    "bf16": ({"dtype": jnp.bfloat16}, {}),
    "param-bf16": ({"param_dtype": jnp.bfloat16}, {}),
    "inits": ({"kernel_init": "normal", "out_kernel_init": "ones", "out_bias_init": "ones"}, {}),
    "mask": ({}, {"mask": CAUSAL}),
    "causal": ({}, {"is_causal": True}),
    "precision": ({"precision": "highest"}, {}),
    "dropout": ({"dropout_rate": 0.5, "deterministic": False}, {}),
    "dropout-each": ({"dropout_rate": 0.5, "deterministic": False, "broadcast_dropout": False}, {}),
    "dropout-off": ({"dropout_rate": 0.5}, {"deterministic": True}),
    "sow": ({}, {"sow_weights": True}),
}


def heads(nnx, options):
    named = {k: getattr(nnx.initializers, v) for k, v in options.items() if k.endswith("init")}
    named = {k: v() if k == "kernel_init" else v for k, v in named.items()}
    return nnx.MultiHeadAttention(4, 8, decode=False, rngs=nnx.Rngs(0, params=1), **{**options, **named})


@pytest.mark.parametrize("name", HEADS)
def test_multi_head_attention(name):
    options, call = HEADS[name]
    models = [heads(nnx, options) for nnx in (flax_nnx, fx_nnx)]
    same(*(arrays(nnx, model) for nnx, model in zip((flax_nnx, fx_nnx), models)))
    outputs = [[model(jnp.asarray(X), **call) for _ in range(2)] for model in models]
    # Norms over the two features of a head: Flax subtracts squares, which loses digits, on some processors more.
    near(*outputs, tolerance=5e-2 if "bf16" in name else 2e-3 if name == "normalize" else 2e-6)
    if name == "sow":
        near(*(tuple(model.attention_weights.get_value()) for model in models))
    theirs, ours = (arrays(nnx, model) for nnx, model in zip((flax_nnx, fx_nnx), models))
    assert theirs.keys() == ours.keys()
    near(theirs, ours, 5e-2)


@pytest.mark.parametrize("kv_heads", [None, 4, 2, 1])
def test_cross_and_grouped_attention(kv_heads):
    def run(nnx):
        layer = nnx.MultiHeadAttention(4, 8, 16, None, kv_heads, 6, decode=False, rngs=nnx.Rngs(3))
        return arrays(nnx, layer), layer(jnp.asarray(X), jnp.asarray(KV)), layer(jnp.asarray(X), KV, jnp.sin(KV))

    (their_arrays, *theirs), (our_arrays, *ours) = run(flax_nnx), run(fx_nnx)
    same(their_arrays, our_arrays)
    near(theirs, ours)


@pytest.mark.parametrize("kv_heads", [None, 2])
def test_decoding_token_by_token(kv_heads):
    def run(nnx):
        layer = nnx.MultiHeadAttention(4, 8, num_kv_heads=kv_heads, decode=True, rngs=nnx.Rngs(3))
        layer.init_cache((2, 4, 8))
        step = nnx.jit(lambda layer, x: layer(x))
        return [step(layer, jnp.asarray(X[:, i : i + 1])) for i in range(4)], arrays(nnx, layer)

    near(run(flax_nnx), run(fx_nnx))


CELLS = {
    "lstm": ("LSTMCell", {}),
    "lstm-gates": ("LSTMCell", {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jax.nn.relu}),
    "lstm-bf16": ("LSTMCell", {"dtype": jnp.bfloat16}),
    "lstm-carry": ("LSTMCell", {"carry_init": jax.nn.initializers.normal(), "keep_rngs": True}),
    "optimized": ("OptimizedLSTMCell", {}),
    "optimized-bias": ("OptimizedLSTMCell", {"bias_init": jax.nn.initializers.ones}),
    "gru": ("GRUCell", {}),
    "gru-carry": ("GRUCell", {"carry_init": jax.nn.initializers.normal(), "keep_rngs": True}),
    "gru-param-bf16": ("GRUCell", {"dtype": jnp.float32, "bias_init": jax.nn.initializers.ones}),
    "simple": ("SimpleCell", {}),
    "simple-residual": ("SimpleCell", {"residual": True, "activation_fn": jax.nn.relu}),
    "simple-dtype": ("SimpleCell", {"dtype": None}),
}


def cell_of(nnx, name, **more):
    kind, options = CELLS[name]
    return getattr(nnx, kind)(8, 3, rngs=nnx.Rngs(0, params=1), **options, **more)


@pytest.mark.parametrize("name", CELLS)
def test_cells(name):
    def run(nnx):
        cell = cell_of(nnx, name)
        first = arrays(nnx, cell)
        carry = cell.initialize_carry(X[:, 0].shape, nnx.Rngs(7) if cell.rngs is None else None)
        outputs = []
        for i in range(3):
            carry, y = cell(carry, jnp.asarray(X[:, i]))
            outputs += [carry, y]
        return first, outputs

    (their_arrays, theirs), (our_arrays, ours) = run(flax_nnx), run(fx_nnx)
    same(their_arrays, our_arrays)
    near(theirs, ours, 2e-2 if "bf16" in name else 1e-6)


LENGTHS = np.array([4, 2])
RUNS = {
    "plain": ({}, {}),
    "carry": ({"return_carry": True}, {}),
    "lengths": ({"return_carry": True}, {"seq_lengths": LENGTHS}),
    "reverse": ({"reverse": True}, {}),
    "reverse-lengths": ({"reverse": True, "return_carry": True}, {"seq_lengths": LENGTHS}),
    "keep-order": ({"reverse": True, "keep_order": True}, {"seq_lengths": LENGTHS}),
    "time-major": ({"time_major": True}, {}),
    "unroll": ({"unroll": 2}, {}),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("cell", ["lstm", "gru-carry"])
def test_rnn(cell, name):
    options, call = RUNS[name]

    def run(nnx):
        rnn = nnx.RNN(cell_of(nnx, cell), **options)
        return rnn(jnp.asarray(X), **{k: jnp.asarray(v) for k, v in call.items()})

    theirs, ours = run(flax_nnx), run(fx_nnx)
    if "seq_lengths" in call:  # behind the end of a sequence there is nothing to compare
        valid = np.arange(4) < LENGTHS[:, None]
        cut = lambda y: np.where(valid[..., None], y, 0)  # noqa: E731
        theirs, ours = ((out[0], cut(out[1])) if options.get("return_carry") else cut(out) for out in (theirs, ours))
    near(theirs, ours)


@pytest.mark.parametrize("carry_init", [None, jax.nn.initializers.normal()], ids=["zeros", "drawn"])
@pytest.mark.parametrize("cell", ["LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"])
@pytest.mark.parametrize("streams", [{"default": 7}, {"default": 7, "carry": 2}], ids=str)
def test_keys_of_streams_that_are_given(streams, cell, carry_init):
    def run(nnx):
        options = {} if carry_init is None else {"carry_init": carry_init}
        make = lambda: nnx.RNN(getattr(nnx, cell)(8, 5, rngs=nnx.Rngs(0), **options))  # noqa: E731
        network, both = make(), nnx.Bidirectional(make(), make())
        found, rngs, x = [], nnx.Rngs(**streams), jnp.asarray(X)
        for call in (network, network, both):
            found += [call(x, rngs=rngs), jax.random.key_data(rngs.dropout()), jax.random.key_data(rngs.carry())]
        return found

    near(run(flax_nnx), run(fx_nnx))


@pytest.mark.parametrize("options", [{}, {"time_major": True}, {"return_carry": True}, {"merge_fn": jnp.add}], ids=str)
def test_bidirectional(options):
    def run(nnx):
        model = nnx.Bidirectional(nnx.RNN(cell_of(nnx, "lstm")), nnx.RNN(cell_of(nnx, "gru")), **options)
        return arrays(nnx, model)["['forward_rnn']['cell']['ii']['kernel']"], model(jnp.asarray(X))

    near(run(flax_nnx), run(fx_nnx))


ADAPTERS = {
    "lora": lambda n, r: n.LoRA(8, 2, 5, rngs=r),
    "lora-b": lambda n, r: n.LoRA(8, 2, 5, b_initializer=jax.nn.initializers.ones, rngs=r),
    "lora-base": lambda n, r: n.LoRA(8, 2, 5, base_module=n.Linear(8, 5, rngs=r), rngs=r),
    "lora-base-float16": lambda n, r: n.LoRA(8, 2, 5, base_module=n.Linear(8, 5, rngs=r), dtype=jnp.float16, rngs=r),
    "lora-linear": lambda n, r: n.LoRALinear(8, 5, lora_rank=2, b_initializer=jax.nn.initializers.ones, rngs=r),
    "lora-linear-no-bias": lambda n, r: n.LoRALinear(8, 5, lora_rank=2, use_bias=False, rngs=r),
    "lora-bf16": lambda n, r: n.LoRA(8, 2, 5, dtype=jnp.bfloat16, b_initializer=jax.nn.initializers.ones, rngs=r),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters(name):
    def run(nnx):
        layer = ADAPTERS[name](nnx, nnx.Rngs(0, params=1))
        return arrays(nnx, layer), layer(jnp.asarray(X))

    (their_arrays, theirs), (our_arrays, ours) = run(flax_nnx), run(fx_nnx)
    same(their_arrays, our_arrays)
    near(theirs, ours, 2e-2 if "bf16" in name else 1e-6)


NORMS = {
    "spectral": lambda n, r: n.SpectralNorm(n.Linear(8, 5, rngs=r), rngs=r),
    "spectral-steps": lambda n, r: n.SpectralNorm(n.Linear(8, 5, rngs=r), n_steps=3, rngs=r),
    "spectral-conv": lambda n, r: n.SpectralNorm(n.Conv(8, 5, (3,), rngs=r), n_steps=2, rngs=r),
    "weight": lambda n, r: n.WeightNorm(n.Linear(8, 5, rngs=r), rngs=r),
    "weight-no-scale": lambda n, r: n.WeightNorm(n.Linear(8, 5, rngs=r), use_scale=False, rngs=r),
    "weight-all": lambda n, r: n.WeightNorm(n.Linear(8, 5, rngs=r), feature_axes=None, rngs=r),
    "weight-conv": lambda n, r: n.WeightNorm(n.Conv(8, 5, (3,), rngs=r), scale_init=n.initializers.ones, rngs=r),
    "weight-axes": lambda n, r: n.WeightNorm(n.Conv(8, 5, (3,), rngs=r), feature_axes=(0, -1), rngs=r),
}


@pytest.mark.parametrize("name", NORMS)
def test_weight_norms(name):
    """The first call: Flax then goes on from the normalized weights, fx from the trained ones."""

    def run(nnx):
        layer = NORMS[name](nnx, nnx.Rngs(0, params=1))
        return arrays(nnx, layer.layer_instance), layer(jnp.asarray(X)), int(nnx.state(layer, nnx.Param) is not None)

    (our_first, ours, _), (_, theirs, _) = run(fx_nnx), run(flax_nnx)
    near(theirs, ours, 2e-6)
    layer = NORMS[name](fx_nnx, fx_nnx.Rngs(0, params=1))
    layer(jnp.asarray(X))
    same(our_first, arrays(fx_nnx, layer.layer_instance))
