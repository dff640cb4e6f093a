"""Attention against plain NumPy; the fused kernel against the plain way; what happens with wrong arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import (
    ArgumentError,
    ShapeMismatchError,
)
from fx_core.ops import attention
from fx_core.ops.initializers import flattened
from hypothesis import given, settings
from hypothesis import strategies as st

BATCHES = [(), (2,), (2, 3)]


def draw(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def qkv(batch=(2,), queries=3, keys=5, heads=4, kv_heads=None, depth=4, value_depth=None):
    kv_heads, value_depth = kv_heads or heads, value_depth or depth
    q = draw((*batch, queries, heads, depth))
    return q, draw((*batch, keys, kv_heads, depth), 1), draw((*batch, keys, kv_heads, value_depth), 2)


def expected_weights(q, k, bias=None, mask=None):
    k = np.repeat(k, q.shape[-2] // k.shape[-2], axis=-2)
    logits = np.einsum("...qhd,...khd->...hqk", q, k) / np.sqrt(q.shape[-1])
    if bias is not None:
        logits = logits + bias
    if mask is not None:
        logits = np.where(mask, logits, -1e30)
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def expected(q, k, v, bias=None, mask=None):
    v = np.repeat(v, q.shape[-2] // v.shape[-2], axis=-2)
    return np.einsum("...hqk,...khd->...qhd", expected_weights(q, k, bias, mask), v)


def plain(q, k, v, **options):
    """The way that makes weights, whatever they are for."""
    return attention.dot_product_attention(q, k, v, sow=lambda weights: None, **options)


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("way", [attention.dot_product_attention, plain])
def test_attention_is_a_weighted_average(batch, kv_heads, way):
    arrays = qkv(batch, kv_heads=kv_heads)
    np.testing.assert_allclose(way(*arrays), expected(*arrays), rtol=1e-5, atol=1e-6)


@given(
    batch=st.sampled_from(BATCHES),
    lead=st.integers(0, 3),
    heads=st.sampled_from([1, 4]),
    queries=st.sampled_from([1, 3]),
    kv_heads=st.sampled_from([2, 4]),
    dtype=st.sampled_from([bool, np.float32, np.int32]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=12)
def test_masks_and_biases_of_any_shape_that_broadcasts(batch, lead, heads, queries, kv_heads, dtype, seed):
    arrays = qkv(batch, kv_heads=kv_heads)
    full = (*(1 if i < lead else size for i, size in enumerate(batch)), heads, queries, 5)
    mask = np.random.default_rng(seed).random(full) > 0.3
    bias = draw(full, seed)
    for way in (attention.dot_product_attention, plain):
        got = way(*arrays, mask=jnp.asarray(mask, dtype), bias=bias)
        np.testing.assert_allclose(got, expected(*arrays, bias, mask), rtol=1e-4, atol=1e-5)


def test_masks_with_fewer_dimensions_than_the_weights():
    arrays, mask = qkv((2, 3)), np.array([1, 0, 1, 1, 0])
    for way in (attention.dot_product_attention, plain):
        np.testing.assert_allclose(way(*arrays, mask=mask), expected(*arrays, mask=mask), rtol=1e-4, atol=1e-5)


def test_a_mask_with_more_batch_than_the_queries():
    q, k, v = qkv((1,))
    mask = np.random.default_rng(1).random((3, 1, 3, 5)) > 0.3
    got = attention.dot_product_attention(q, k, v, mask=mask)
    np.testing.assert_allclose(got, expected(q, k, v, mask=mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("way", [attention.dot_product_attention, plain])
def test_causal(way):
    arrays = qkv()
    mask = np.tril(np.ones((3, 5), bool))
    np.testing.assert_allclose(way(*arrays, is_causal=True), expected(*arrays, mask=mask), rtol=1e-5, atol=1e-6)
    both = mask & (np.arange(5) != 1)
    got = way(*arrays, is_causal=True, mask=np.arange(5) != 1)
    np.testing.assert_allclose(got, expected(*arrays, mask=both), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", [attention.dot_product_attention, plain])
def test_a_query_that_sees_nothing_averages_everything(way):
    q, k, v = qkv()
    got = way(q, k, v, mask=jnp.zeros((3, 5), bool))
    np.testing.assert_allclose(got, np.broadcast_to(v.mean(1, keepdims=True), got.shape), rtol=1e-5, atol=1e-6)


def test_the_plan_takes_the_fused_kernel_where_it_can():
    plan = functools.partial(attention.plan_attention, (2, 3, 4, 8), (2, 5, 4, 8), (2, 5, 4, 8), dtype=jnp.float32)
    assert plan().kernel == "fused"
    assert plan(mask=(1, 3, 5), bias=(2, 4, 3, 5), dtype=jnp.bfloat16).kernel == "fused"
    assert plan() is plan()
    for reason in (
        {"needs_weights": True},
        {"mask": (7, 2, 1, 3, 5)},
        {"dtype": jnp.float64},
        {"dtype": jnp.float16},
    ):
        assert plan(**reason).kernel == "plain", reason
    assert plan(dtype=jnp.float16, implementation="cudnn").kernel == "fused"
    assert plan(dtype=jnp.float32, implementation="cudnn").kernel == "plain"
    assert attention.plan_attention((1, 2, 8), (1, 2, 8), (1, 2, 7), dtype=jnp.float32).kernel == "plain"
    assert attention.plan_attention((0, 1, 2, 8), (0, 1, 2, 8), (0, 1, 2, 8), dtype=jnp.float32).kernel == "plain"


def test_what_calls_the_fused_kernel(monkeypatch):
    calls = []
    kernel = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *a, **kw: calls.append(kw) or kernel(*a, **kw))
    arrays, key = qkv(), jax.random.key(0)
    attend = functools.partial(attention.dot_product_attention, *arrays)
    attend(dropout_rate=0.5, dropout_rng=key, deterministic=True)
    attend(dropout_rate=0.0, dropout_rng=key)
    attend(force_fp32_for_softmax=True)
    attend(implementation="xla", is_causal=True)
    assert [(call["implementation"], call["is_causal"]) for call in calls] == [(None, False)] * 3 + [("xla", True)]
    calls.clear()
    attend(dropout_rate=0.5, dropout_rng=key)
    attend(precision="highest")
    attend(einsum_dot_general=jax.lax.dot_general)
    attend(sow=lambda weights: None)
    attend(force_fp32_for_softmax=True, dtype=jnp.bfloat16)
    attend(qk_attn_weights_einsum=jnp.einsum, attn_weights_value_einsum=jnp.einsum)
    assert calls == []


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_both_ways_agree_in_values_and_gradients(dtype, kv_heads):
    arrays = [jnp.asarray(array, dtype) for array in qkv(kv_heads=kv_heads)]
    mask = jnp.asarray(np.random.default_rng(3).random((2, 1, 3, 5)) > 0.3)

    def loss(way, *arrays):
        return (way(*arrays, mask=mask).astype(jnp.float32) ** 2).sum()

    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == jnp.float32 else {"rtol": 0.1, "atol": 0.1}
    run = jax.value_and_grad(loss, argnums=(1, 2, 3))
    for a, b in zip(*(jax.tree.leaves(run(way, *arrays)) for way in (attention.dot_product_attention, plain))):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), **tolerance)


def test_values_of_another_depth_and_empty_batches():
    arrays = qkv(kv_heads=2, value_depth=7)
    np.testing.assert_allclose(attention.dot_product_attention(*arrays), expected(*arrays), rtol=1e-5, atol=1e-6)
    assert attention.dot_product_attention(*qkv((0,))).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_weights(kv_heads):
    q, k, _ = qkv(kv_heads=kv_heads)
    bias, mask = draw((2, 4, 3, 5), 5), np.random.default_rng(3).random((2, 1, 3, 5)) > 0.3
    got = attention.dot_product_attention_weights(q, k, bias, mask)
    np.testing.assert_allclose(got, expected_weights(q, k, bias, mask), rtol=1e-5, atol=1e-6)


def test_dropout_scales_what_it_keeps():
    q, k, v = qkv((6,), depth=2)
    options = {"dropout_rate": 0.25, "dropout_rng": jax.random.key(1)}
    weights = attention.dot_product_attention_weights(q, k)
    for broadcast in (True, False):
        dropped = attention.dot_product_attention_weights(q, k, broadcast_dropout=broadcast, **options)
        ratio = np.asarray(dropped / weights)
        np.testing.assert_allclose(ratio[ratio != 0], 1 / 0.75, rtol=1e-5)
        assert 0 < (ratio == 0).mean() < 0.6
        assert bool(((ratio == 0) == (ratio[:1, :1] == 0)).all()) == broadcast
        result = attention.dot_product_attention(q, k, v, broadcast_dropout=broadcast, **options)
        np.testing.assert_allclose(result, np.einsum("bhqk,bkhd->bqhd", dropped, v), rtol=1e-5, atol=1e-6)


def test_dropping_everything_gives_zeros():
    result = attention.dot_product_attention(*qkv(), dropout_rate=1.0, dropout_rng=jax.random.key(0))
    assert not np.asarray(result).any()


def test_weights_are_sown_before_dropout():
    seen, (q, k, v) = [], qkv()
    options = {"dropout_rate": 0.5, "dropout_rng": jax.random.key(0), "sow": seen.append}
    attention.dot_product_attention(q, k, v, **options)
    attention.dot_product_attention_weights(q, k, **options)
    for weights in seen:
        np.testing.assert_allclose(weights, expected_weights(q, k), rtol=1e-5, atol=1e-6)
    assert len(seen) == 2


def test_dtypes():
    arrays = [jnp.asarray(array, jnp.bfloat16) for array in qkv()]
    attend = functools.partial(attention.dot_product_attention, *arrays)
    assert attend().dtype == jnp.bfloat16
    assert attend(dtype=jnp.float16).dtype == jnp.float16
    assert attend(force_fp32_for_softmax=True).dtype == jnp.float32
    assert attend(dtype=jnp.float32).dtype == jnp.float32
    assert attention.dot_product_attention_weights(*arrays[:2], force_fp32_for_softmax=True).dtype == jnp.float32
    integers = [jnp.ones_like(array, jnp.int32) for array in arrays]
    assert attention.dot_product_attention(*integers).dtype == jnp.float32


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_sixty_four_bits_stay(dtype):
    with jax.enable_x64(True):
        q, k, v = (x.astype(dtype) for x in qkv(depth=3))
        logits = np.einsum("...qhd,...khd->...hqk", q, k) / np.sqrt(3)
        weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        got = attention.dot_product_attention(q, k, v)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, np.einsum("...hqk,...khd->...qhd", weights, v), rtol=1e-13)


def test_hooks_get_equations_and_arrays():
    seen = []

    def einsum(equation, lhs, rhs):
        seen.append((equation, lhs.shape, rhs.shape))
        return jnp.einsum(equation, lhs, rhs)

    arrays = qkv()
    got = attention.dot_product_attention(*arrays, qk_attn_weights_einsum=einsum, attn_weights_value_einsum=einsum)
    np.testing.assert_allclose(got, expected(*arrays), rtol=1e-5, atol=1e-6)
    attention.dot_product_attention_weights(*arrays[:2], einsum=einsum)
    assert [equation for equation, *_ in seen] == [
        "...qhd,...khd->...hqk",
        "...hqk,...khd->...qhd",
        "...qhd,...khd->...hqk",
    ]


def test_a_dot_general_gets_the_precision():
    seen = []

    def dot_general(lhs, rhs, dims, precision=None, **options):
        seen.append(precision)
        return jax.lax.dot_general(lhs, rhs, dims, precision=precision, **options)

    arrays = qkv(kv_heads=2)
    got = attention.dot_product_attention(*arrays, einsum_dot_general=dot_general, precision="highest")
    np.testing.assert_allclose(got, expected(*arrays), rtol=1e-5, atol=1e-6)
    assert seen == ["highest", "highest"]


def test_heads_and_their_parameters():
    plan = attention.plan_heads(8, 4, 2, out_features=5)
    specs = attention.attention_params(plan, 6, 7, 9, normalize_qk=True)
    assert {name: {n: s.shape for n, s in spec.items()} for name, spec in specs.items()} == {
        "query": {"kernel": (6, 4, 2), "bias": (4, 2)},
        "key": {"kernel": (7, 2, 2), "bias": (2, 2)},
        "value": {"kernel": (9, 2, 2), "bias": (2, 2)},
        "query_ln": {"scale": (2,)},
        "key_ln": {"scale": (2,)},
        "out": {"kernel": (4, 2, 5), "bias": (5,)},
    }
    assert all(len(s.axes) == len(s.shape) for spec in specs.values() for s in spec.values())
    kernel = specs["query"]["kernel"]
    drawn = kernel.init(jax.random.key(0), kernel.shape, jnp.float32)
    flat = jax.nn.initializers.lecun_normal()(jax.random.key(0), (6, 8), jnp.float32)
    np.testing.assert_array_equal(drawn.reshape(6, 8), flat)
    bare = attention.attention_params(plan, 6, use_bias=False, out_kernel_init=jax.nn.initializers.ones)
    assert [list(spec) for spec in bare.values()] == [["kernel"]] * 4
    assert (bare["out"]["kernel"].init(jax.random.key(0), (4, 2, 5), jnp.float32) == 1).all()


def test_qk_norm():
    q, k = jnp.asarray(draw((2, 3, 4, 8))) * 50 + 3, jnp.asarray(draw((2, 5, 2, 8), 1))
    scale = jnp.arange(1.0, 9.0)
    q_normal, k_normal = attention.qk_norm(q, k, scale, None)
    np.testing.assert_allclose((q_normal / scale.reshape(1, 1, 1, 8)).mean(-1), np.zeros((2, 3, 4)), atol=1e-5)
    np.testing.assert_allclose(k_normal.std(-1), np.ones((2, 5, 2)), rtol=1e-4)
    assert attention.qk_norm(q, k, None, None, dtype=jnp.bfloat16)[0].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ShapeMismatchError, "at least three", lambda q, k, v: (q, k[0], v)),
        (ShapeMismatchError, "batch dimensions", lambda q, k, v: (q, k[:1], v)),
        (ShapeMismatchError, "different depths", lambda q, k, v: (q, k[..., :2], v)),
        (ShapeMismatchError, "length or heads", lambda q, k, v: (q, k, v[:, :4])),
        (ShapeMismatchError, "length or heads", lambda q, k, v: (q, k, v[:, :, :2])),
        (ArgumentError, "4 heads of the queries cannot", lambda q, k, v: (q, k[:, :, :3], v[:, :, :3])),
        (
            ShapeMismatchError,
            r"The bias does(.|\n)*\(2, 4, 3, 5\)(.|\n)*\(2, 5\)",
            lambda *a: (*a, jnp.ones((2, 5))),
        ),
        (ShapeMismatchError, "The mask does not", lambda *a: (*a, None, jnp.ones((2, 3, 1, 1)))),
    ],
)
def test_shapes_that_do_not_fit(error, match, call):
    with pytest.raises(error, match=match):
        attention.dot_product_attention(*call(*qkv()))
    assert issubclass(error, ArgumentError)


def test_weights_of_shapes_that_do_not_fit():
    q, k, _ = qkv()
    with pytest.raises(ShapeMismatchError, match="queries and keys have different batch"):
        attention.dot_product_attention_weights(q, k[:1])


@pytest.mark.parametrize("options", [{"precision": "highest"}, {"einsum_dot_general": jax.lax.dot_general}])
def test_hooks_that_exclude_each_other(options):
    arrays = qkv()
    with pytest.raises(ArgumentError, match="together with options of the built-in"):
        attention.dot_product_attention(
            *arrays, **options, qk_attn_weights_einsum=jnp.einsum, attn_weights_value_einsum=jnp.einsum
        )
    with pytest.raises(ArgumentError, match="An einsum function was given together"):
        attention.dot_product_attention_weights(*arrays[:2], **options, einsum=jnp.einsum)


@pytest.mark.parametrize("hook", ["qk_attn_weights_einsum", "attn_weights_value_einsum"])
def test_one_hook_without_the_other(hook):
    with pytest.raises(ArgumentError, match="One einsum function"):
        attention.dot_product_attention(*qkv(), **{hook: jnp.einsum})


def test_dropout_needs_a_key_and_a_probability():
    with pytest.raises(ArgumentError, match=r"dropout_rng=None with dropout_rate=0.5"):
        attention.dot_product_attention(*qkv(), dropout_rate=0.5)
    with pytest.raises(ArgumentError, match="probability"):
        attention.dot_product_attention(*qkv(), dropout_rate=50, dropout_rng=jax.random.key(0))


def test_heads_that_do_not_divide():
    with pytest.raises(ArgumentError, match=r"8 features cannot(.|\n)*num_heads=3"):
        attention.plan_heads(8, 3)
    with pytest.raises(ArgumentError, match=r"4 heads of the queries(.|\n)*num_kv_heads=3"):
        attention.plan_heads(8, 4, 3)
    with pytest.raises(ArgumentError, match="num_heads=0"):
        attention.plan_heads(8, 0)


def test_masks():
    tokens = jnp.array([[1, 2, 0], [3, 0, 0]]) > 0
    padding = attention.make_attention_mask(tokens, tokens, dtype=bool)
    assert padding.shape == (2, 1, 3, 3)
    assert attention.make_attention_mask(tokens, tokens, extra_batch_dims=2).shape == (1, 1, 2, 1, 3, 3)
    causal = attention.make_causal_mask(tokens, dtype=bool)
    np.testing.assert_array_equal(causal[1, 0], np.tril(np.ones((3, 3), bool)))
    both = attention.combine_masks(padding, None, causal, dtype=bool)
    np.testing.assert_array_equal(both, np.asarray(padding) & np.asarray(causal))
    assert attention.combine_masks(padding).dtype == jnp.float32
    assert attention.combine_masks(None) is None
    with pytest.raises(ShapeMismatchError, match=r"\(2, 1, 3, 3\), \(3, 3\)"):
        attention.combine_masks(padding, causal[0, 0])


def test_flattened_initializers_keep_their_identity():
    init = jax.nn.initializers.lecun_normal()
    assert flattened(init, (1, 2)) is flattened(init, [1, 2])
    assert flattened(init, (1, 2)) is not flattened(init, (2, 1))

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, key, shape, dtype):
            return jnp.zeros(shape, dtype)

    assert flattened(Unhashable(), (1, 2))(jax.random.key(0), (2, 3, 4), jnp.float32).shape == (2, 3, 4)
