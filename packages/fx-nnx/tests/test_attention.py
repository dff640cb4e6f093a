import functools

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ArgumentError, CacheFullError, ShapeMismatchError
from fx_nnx.errors import NnxError
from fx_nnx.layers.attention import dot_product_attention_weights

X = jnp.sin(jnp.arange(2 * 6 * 8.0)).reshape(2, 6, 8)


def heads(**options):
    return nnx.MultiHeadAttention(4, 8, **{"decode": False, "rngs": nnx.Rngs(0), **options})


def close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_prompt_then_tokens_equal_the_whole_sequence(kv_heads):
    layer = heads(num_kv_heads=kv_heads)
    whole = layer(X, is_causal=True)
    layer.set_view(decode=True, batch_size=2, max_length=6)
    assert layer.cached_key.shape == (2, 6, kv_heads, 2)
    parts = [layer(X[:, :3]), layer(X[:, 3:5]), layer(X[:, 5:])]
    close(jnp.concatenate(parts, 1), whole)
    assert int(layer.cache_index[...]) == 6
    with pytest.raises(CacheFullError, match=r"no room for 1 more token[\s\S]*at most 0"):
        layer(X[:, :1])


def rope_heads():
    return heads(attention_fn=functools.partial(nnx.dot_product_attention_with_rope, rope=nnx.RoPE()))


@pytest.mark.parametrize("make", [heads, rope_heads])
def test_rows_at_their_own_positions(make):
    """Prompts of 2 and 4 tokens, padded at the end; then two tokens more for each."""
    layer = make()
    expected = [layer(row[None], is_causal=True)[0] for row in (X[0, :4], X[1, :6])]
    layer.set_view(decode=True, batch_size=2, max_length=8)
    layer(X[:, :4])
    layer.cache_index.set_value(jnp.array([2, 4]))
    more = jnp.stack([X[0, 2:4], X[1, 4:6]])
    out = jnp.concatenate([layer(more[:, :1]), layer(more[:, 1:])], 1)
    close(out, jnp.stack([expected[0][2:], expected[1][4:]]))


def test_prompts_padded_at_the_front():
    layer = rope_heads()
    expected = layer(X[:1, :4], is_causal=True)[0, 2:]
    layer.set_view(decode=True, batch_size=1, max_length=6)
    prompt = jnp.concatenate([jnp.ones((1, 2, 8)), X[:1, :2]], 1)
    seen = jnp.arange(6) >= 2
    layer(prompt, mask=seen, input_positions=jnp.array([[-2, -1, 0, 1]]))
    out = [layer(X[:1, i : i + 1], mask=seen, input_positions=jnp.array([[i]])) for i in (2, 3)]
    close(jnp.concatenate(out, 1)[0], expected)


def test_decoding_compiles_once_for_all_tokens():
    layer = heads(dtype=jnp.bfloat16)
    layer.init_cache((2, 6, 8))
    graphdef, state = nnx.split(layer)
    traces = []

    @jax.jit
    def step(state, x):
        traces.append(1)
        layer = nnx.merge(graphdef, state, copy=True)
        y = layer(x, decode=True)
        return nnx.state(layer), y

    for i in range(3):
        state, y = step(state, X[:, i : i + 1])
    assert len(traces) == 1
    assert int(state["cache_index"][...]) == 3
    assert y.dtype == jnp.bfloat16
    assert state["cached_key"].dtype == jnp.float32


def test_masks_dropout_and_weights():
    layer = heads(dropout_rate=0.5, normalize_qk=True)
    mask = nnx.combine_masks(nnx.make_causal_mask(X[..., 0]), nnx.make_attention_mask(X[..., 0] > -2, X[..., 0] < 2))
    close(layer(X, mask=mask, deterministic=True), layer(X, is_causal=True, deterministic=True))
    layer.train()
    assert jnp.any(layer(X) != layer(X))
    close(layer(X, rngs=nnx.Rngs(1)), layer(X, rngs=nnx.Rngs(1)))
    layer.eval()
    _, found = nnx.capture(layer, nnx.Intermediate)(X, sow_weights=True)
    (weights,) = found["attention_weights"].get_value()
    assert weights.shape == (2, 4, 6, 6)
    close(weights.sum(-1), jnp.ones((2, 4, 6)))


def test_weights_as_a_function():
    asked = []

    def promote(arrays, *, dtype):
        asked.append(dtype)
        return [a.astype(jnp.bfloat16) for a in arrays]

    module = nnx.Module()
    q = jnp.ones((2, 3, 4, 8))
    plain = dot_product_attention_weights(q, q, is_causal=True)
    weights = dot_product_attention_weights(q, q, is_causal=True, module=module, promote_dtype=promote)
    assert (plain.dtype, weights.dtype, asked) == (jnp.float32, jnp.bfloat16, [None])
    assert weights.shape == (2, 4, 3, 3)
    (sown,) = module.attention_weights[...]
    assert (sown == weights).all()


def test_a_function_of_the_user_gets_what_it_takes():
    def average(query, key, value, mask=None):
        assert mask is None
        return jnp.broadcast_to(value.mean(-3, keepdims=True), query.shape)

    layer = heads(attention_fn=average)
    assert layer(X).shape == X.shape
    with pytest.raises(TypeError, match="is_causal"):
        layer(X, is_causal=True)
    with pytest.raises(ArgumentError, match=r"knows no positions[\s\S]*got: average"):
        layer(X, input_positions=jnp.arange(6))


def test_rope_tables_are_computed_once_or_in_each_call():
    kept, computed = nnx.RoPE(embedding_size=8, max_seq_len=6), nnx.RoPE()
    close(kept(X), computed(X))
    positions = jnp.array([[3, 1, 0, 2, 5, 4], [0, 1, 2, 3, 4, 5]])
    close(kept(X, positions), computed(X, positions))
    assert jnp.isnan(kept(X, jnp.full(6, 7))).all()
    assert kept(X.astype(jnp.bfloat16)).dtype == jnp.float32
    with pytest.raises(ShapeMismatchError, match="both of embedding_size and max_seq_len"):
        nnx.RoPE(embedding_size=8)
    with pytest.raises(ShapeMismatchError, match="at most 6 vectors of 8"):
        kept(jnp.ones((7, 8)))
    with pytest.raises(ShapeMismatchError, match="positive even depth"):
        computed(jnp.ones((6, 7)))


def test_metadata_and_dtypes():
    layer = heads(
        param_dtype=jnp.bfloat16,
        kernel_metadata={"tag": "k"},
        out_kernel_metadata={"tag": "o"},
        query_ln_scale_metadata={"tag": "q"},
        normalize_qk=True,
    )
    assert (layer.query.kernel.tag, layer.out.kernel.tag, layer.query_ln.scale.tag) == ("k", "o", "q")
    assert layer.key.kernel.dtype == jnp.bfloat16
    assert layer(X).dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: heads(decode=None)(X), NnxError, "neither the layer nor the call says 'decode'"),
        (lambda: heads()(X[..., :5]), ShapeMismatchError, r"inputs_q does not have[\s\S]*8 features[\s\S]*\(2, 6, 5\)"),
        (lambda: heads()(X, X[..., :5]), ShapeMismatchError, "inputs_k does not have"),
        (lambda: heads()(X, X, X[..., :5]), ShapeMismatchError, "inputs_v does not have"),
        (lambda: heads()(X, None, X), ArgumentError, "inputs_v was given without inputs_k"),
        (lambda: heads()(X, decode=True), NnxError, r"no cache to decode with[\s\S]*init_cache"),
        (lambda: heads().set_view(batch_size=2), NnxError, "both of batch_size and max_length"),
        (
            lambda: heads(dropout_rate=0.5, deterministic=False, keep_rngs=False)(X),
            NnxError,
            "'rngs' must be given",
        ),
        (lambda: heads(num_kv_heads=3), ArgumentError, "num_kv_heads that divides 4"),
        (lambda: nnx.MultiHeadAttention(3, 8, rngs=nnx.Rngs(0)), ArgumentError, "num_heads that divides 8"),
    ],
)
def test_bad_calls(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_cache_for_another_batch():
    layer = heads(decode=True)
    layer.init_cache((3, 6, 8))
    with pytest.raises(ShapeMismatchError, match=r"new key does not fit[\s\S]*\(3, 6, 4, 2\)"):
        layer(X)
    layer.init_cache((2, 6, 8))
    with pytest.raises(ShapeMismatchError, match="decoding is self-attention"):
        layer(X[:, :2], X[:, :1])


def test_an_error_says_where_the_layer_is():
    class Net(nnx.Module):
        def __init__(self):
            self.blocks = nnx.List([nnx.Linear(8, 4, rngs=nnx.Rngs(0))])

    net = Net()
    with pytest.raises(ShapeMismatchError, match=r"Net/blocks/0[\s\S]*8 features[\s\S]*\(2, 6, 3\)"):
        net.blocks[0](X[..., :3])


def test_weights_are_dropped_until_eval_as_by_dropout():
    layer = heads(dropout_rate=0.5)
    assert bool((layer(X) != layer(X)).any())
    layer.eval()
    np.testing.assert_array_equal(layer(X), layer(X))
    layer.train()
    assert bool((layer(X) != layer(X, deterministic=True)).any())
