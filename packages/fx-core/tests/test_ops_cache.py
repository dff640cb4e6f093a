"""Key-value caches and rotary positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import CacheFullError, ShapeMismatchError
from fx_core.ops import attention, cache, rope
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTH = 6


def draw(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@given(
    batch=st.sampled_from([(), (2,), (2, 3)]),
    pieces=st.lists(st.integers(1, 4), min_size=1, max_size=4).filter(lambda sizes: sum(sizes) <= LENGTH),
    per_row=st.booleans(),
)
@settings(deadline=None, max_examples=8)
def test_tokens_lie_one_behind_the_other_however_they_come(batch, pieces, per_row):
    keys, values = draw((*batch, LENGTH, 2, 3)), draw((*batch, LENGTH, 2, 4), 1)
    state = cache.init_cache(batch, LENGTH, 2, 3, 4, per_row=per_row)
    start = 0
    for size in pieces:
        part = slice(start, start + size)
        state = cache.append(state, keys[..., part, :, :], values[..., part, :, :])
        start += size
    np.testing.assert_array_equal(state.key[..., :start, :, :], keys[..., :start, :, :])
    np.testing.assert_array_equal(state.value[..., :start, :, :], values[..., :start, :, :])
    assert not state.key[..., start:, :, :].any()
    np.testing.assert_array_equal(state.index, np.full(batch if per_row else (), start))


def test_rows_at_positions_of_their_own():
    state = cache.init_cache((3,), LENGTH, 1, 2).replace(index=jnp.array([0, 3, 5]))
    new = draw((3, 1, 1, 2))
    after = cache.append(state, new, new)
    expected = np.zeros((3, LENGTH, 1, 2), np.float32)
    for row, at in enumerate([0, 3, 5]):
        expected[row, at] = new[row, 0]
    np.testing.assert_array_equal(after.key, expected)
    assert after.index.tolist() == [1, 4, 6]
    mask = cache.decoding_mask(state, 1, 1)
    assert mask.sum(-1).ravel().tolist() == [1, 4, 6]


@pytest.mark.parametrize("sizes", [[6], [1] * 6, [3, 1, 2], [1, 5]])
def test_decoding_in_pieces_is_causal_attention(sizes):
    q, k, v = draw((2, 6, 4, 3)), draw((2, 6, 2, 3), 1), draw((2, 6, 2, 3), 2)
    state, outputs, start = cache.init_cache((2,), LENGTH, 2, 3), [], 0
    for size in sizes:
        part = slice(start, start + size)
        mask = cache.decoding_mask(state, size, 4)
        state = cache.append(state, k[:, part], v[:, part])
        outputs.append(attention.dot_product_attention(q[:, part], state.key, state.value, mask=mask))
        start += size
    whole = attention.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), whole, rtol=1e-5, atol=1e-6)


def test_ragged_prompts_decode_like_each_alone():
    lengths = [3, 1]
    q, k, v = draw((2, 4, 1, 3)), draw((2, 4, 1, 3), 1), draw((2, 4, 1, 3), 2)
    state = cache.append(cache.init_cache((2,), LENGTH, 1, 3), k[:, :3], v[:, :3])
    state = state.replace(index=jnp.array(lengths))
    mask = cache.decoding_mask(state, 1, 1)
    state = cache.append(state, k[:, 3:], v[:, 3:])
    got = attention.dot_product_attention(q[:, 3:], state.key, state.value, mask=mask)
    for row, length in enumerate(lengths):
        keys, values = (jnp.concatenate([x[row, :length], x[row, 3:]]) for x in (k, v))
        alone = attention.dot_product_attention(q[row, 3:], keys, values)
        np.testing.assert_allclose(got[row], alone, rtol=1e-5, atol=1e-6)


def test_the_mask_of_the_caller_holds_too():
    state = cache.init_cache((2,), 4, 1, 3).replace(index=jnp.array(1))
    given_mask = jnp.array([0, 1, 1, 1])
    mask = cache.decoding_mask(state, 2, 1, given_mask)
    assert mask.shape == (2, 1, 2, 4)
    assert mask[0, 0].tolist() == [[False, True, False, False], [False, True, True, False]]
    assert cache.decoding_mask(state, 2, 3, jnp.ones((2, 3, 2, 4))).shape == (2, 3, 2, 4)
    with pytest.raises(ShapeMismatchError, match=r"\(2, 3, 2, 4\)(.|\n)*got: \(2, 1, 2, 2\)"):
        cache.decoding_mask(state, 2, 3, jnp.ones((2, 1, 2, 2)))


def test_caches_are_pytrees_and_keep_their_dtype():
    state = cache.init_cache((2,), LENGTH, 1, 3, dtype=jnp.bfloat16)

    def step(state, token):
        return cache.append(state, token, token), state.index

    final, indices = jax.lax.scan(step, state, draw((4, 2, 1, 1, 3)))
    assert indices.tolist() == [0, 1, 2, 3]
    assert (final.key.dtype, final.index.dtype) == (jnp.bfloat16, jnp.int32)
    assert cache.positions(final.index, 2).tolist() == [4, 5]


def test_full_caches():
    state, token = cache.init_cache((2,), 4, 1, 3), draw((2, 1, 1, 3))
    with pytest.raises(CacheFullError, match=r"at most 4 token(.|\n)*5 token\(s\), with 0 of 4 places"):
        cache.append(state, draw((2, 5, 1, 3)), draw((2, 5, 1, 3)))
    with pytest.raises(CacheFullError, match=r"at most 4 token(.|\n)*longer cache"):
        jax.jit(cache.append)(state, draw((2, 5, 1, 3)), draw((2, 5, 1, 3)))
    with pytest.raises(CacheFullError, match=r"at most 0 token(.|\n)*4 of 4 places"):
        cache.append(state.replace(index=jnp.array(4)), token, token)
    with pytest.raises(CacheFullError, match="4 of 4 places"):
        cache.append(state.replace(index=jnp.array([0, 4])), token, token)


def test_a_traced_cache_that_is_full_writes_its_last_place_over():
    state = cache.init_cache((1,), 2, 1, 1).replace(index=jnp.array(2))
    after = jax.jit(cache.append)(state, jnp.full((1, 1, 1, 1), 9.0), jnp.full((1, 1, 1, 1), 9.0))
    assert after.key.ravel().tolist() == [0.0, 9.0]


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ((3, 1, 1, 3), (3, 1, 1, 3), r"The new key does not fit(.|\n)*\(2, 1, 1, 3\)(.|\n)*got: \(3, 1, 1, 3\)"),
        ((2, 1, 1, 3), (2, 2, 1, 3), "The new value does not fit"),
        ((2, 1, 2, 3), (2, 1, 2, 3), "The new key does not fit"),
        ((1, 3), (1, 3), r"\(2, tokens, 1, 3\)"),
    ],
)
def test_arrays_that_do_not_fit_the_cache(key, value, match):
    with pytest.raises(ShapeMismatchError, match=match):
        cache.append(cache.init_cache((2,), 4, 1, 3), jnp.ones(key), jnp.ones(value))


def test_an_index_that_does_not_fit_the_batch():
    state = cache.init_cache((2,), 4, 1, 3).replace(index=jnp.zeros(3, jnp.int32))
    with pytest.raises(ShapeMismatchError, match=r"The index does not fit(.|\n)*of shape \(2,\)(.|\n)*got: \(3,\)"):
        cache.append(state, jnp.ones((2, 1, 1, 3)), jnp.ones((2, 1, 1, 3)))


def complex_rope(x, positions, theta=10000.0):
    half = x.shape[-1] // 2
    angles = np.asarray(positions)[..., None] * theta ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[..., :, None, :]
    return np.concatenate([turned.real, turned.imag], axis=-1)


@pytest.mark.parametrize("shape", [(4, 1, 6), (2, 4, 3, 6), (2, 2, 4, 3, 2)], ids=str)
def test_rope_turns_pairs_of_features(shape):
    x = draw(shape)
    np.testing.assert_allclose(rope.rope(x), complex_rope(np.asarray(x), np.arange(4)), rtol=1e-4, atol=1e-5)
    positions = np.random.default_rng(0).integers(0, 50, shape[:-2])
    got = rope.rope(x, jnp.asarray(positions), theta=100.0)
    np.testing.assert_allclose(got, complex_rope(np.asarray(x), positions, 100.0), rtol=1e-3, atol=1e-4)


@given(shift=st.integers(0, 30))
@settings(deadline=None, max_examples=10)
def test_inner_products_depend_on_distances_only(shift):
    q, k = draw((3, 1, 8)), draw((3, 1, 8), 1)

    def products(positions):
        return jnp.einsum("qhd,khd->hqk", rope.rope(q, positions), rope.rope(k, positions))

    np.testing.assert_allclose(products(jnp.arange(3)), products(jnp.arange(3) + shift), rtol=1e-3, atol=1e-4)


def test_rope_at_the_positions_of_a_cache():
    x = draw((2, 6, 1, 4))
    index = jnp.array([4, 1])
    part = jnp.stack([x[0, 4:6], x[1, 1:3]])
    got = rope.rope(part, cache.positions(index, 2))
    whole = rope.rope(x)
    np.testing.assert_allclose(got, jnp.stack([whole[0, 4:6], whole[1, 1:3]]), rtol=1e-5, atol=1e-6)


def test_rope_dtypes():
    x = draw((4, 1, 6)).astype(jnp.bfloat16)
    assert rope.rope(x).dtype == jnp.bfloat16
    assert rope.rope(x, dtype=jnp.float32).dtype == jnp.float32
    np.testing.assert_allclose(rope.rope(x, dtype=jnp.float32), rope.rope(x.astype(jnp.float32)), rtol=1e-6)


def test_rope_errors():
    with pytest.raises(ShapeMismatchError, match=r"even depth(.|\n)*got: 5"):
        rope.rope(jnp.ones((4, 1, 5)))
    with pytest.raises(ShapeMismatchError, match="even depth"):
        rope.rope_tables(jnp.arange(3), 0)
    with pytest.raises(ShapeMismatchError, match=r"one position per token(.|\n)*tables of shape \(3, 3\)"):
        rope.rope(jnp.ones((4, 1, 6)), jnp.arange(3))
    with pytest.raises(ShapeMismatchError, match="one position per token"):
        rope.rope(jnp.ones((2, 4, 1, 6)), jnp.zeros((3, 4)))
