"""Attention layers: parameters, masks, stored weights, decoding, and what happens with wrong inputs."""

from collections.abc import Callable
from typing import Any

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import (
    ArgumentError,
    CacheFullError,
    InvalidRngError,
    ModifyScopeVariableError,
    ScopeParamShapeError,
    ShapeMismatchError,
)

KEY = jax.random.key(0)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def causal(x):
    return nn.make_causal_mask(x[..., 0], dtype=bool)


@pytest.mark.parametrize("layer", [nn.MultiHeadDotProductAttention, nn.MultiHeadAttention])
def test_parameters(layer):
    variables = layer(2, qkv_features=6, out_features=5, normalize_qk=True).init(KEY, draw(2, 3, 8), draw(2, 4, 7))
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {
            "query": {"kernel": (8, 2, 3), "bias": (2, 3)},
            "key": {"kernel": (7, 2, 3), "bias": (2, 3)},
            "value": {"kernel": (7, 2, 3), "bias": (2, 3)},
            "query_ln": {"scale": (3,)},
            "key_ln": {"scale": (3,)},
            "out": {"kernel": (2, 3, 5), "bias": (5,)},
        }
    }


def test_the_layer_is_its_projections_and_attention():
    x, layer = draw(2, 3, 8), nn.MultiHeadAttention(2)
    variables = layer.init(KEY, x)
    params = variables["params"]

    def project(name):
        return jnp.einsum("btf,fhd->bthd", x, params[name]["kernel"])

    attended = nn.dot_product_attention(project("query"), project("key"), project("value"), mask=causal(x))
    expected = jnp.einsum("bthd,hdf->btf", attended, params["out"]["kernel"])
    np.testing.assert_allclose(layer.apply(variables, x, mask=causal(x)), expected, rtol=1e-4, atol=1e-5)


def test_what_stands_for_what():
    q, k = draw(2, 3, 8), draw(2, 4, 8, seed=1)
    layer = nn.MultiHeadAttention(2)
    variables = layer.init(KEY, q)
    one = layer.apply(variables, q, k, k)
    np.testing.assert_array_equal(layer.apply(variables, q, k), one)
    with pytest.warns(DeprecationWarning, match="inputs_kv arg will be deprecated soon"):
        np.testing.assert_array_equal(layer.apply(variables, q, inputs_kv=k), one)
    np.testing.assert_array_equal(layer.apply(variables, q), layer.apply(variables, q, q, q))
    with pytest.warns(DeprecationWarning, match="SelfAttention will be deprecated soon"):
        np.testing.assert_array_equal(nn.SelfAttention(2).apply(variables, q), layer.apply(variables, q))
    assert not np.allclose(layer.apply(variables, q, k, draw(2, 4, 8, seed=2)), one)


@pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated")
@pytest.mark.parametrize("layer", [nn.MultiHeadAttention, nn.SelfAttention])
def test_weights_are_sown_where_someone_collects_them(layer):
    x, module = draw(2, 3, 8), layer(2)
    variables = module.init(KEY, x, sow_weights=True)
    assert list(variables) == ["params"]
    plain = module.apply(variables, x, sow_weights=True)
    out, state = module.apply(variables, x, mask=causal(x), sow_weights=True, mutable=["intermediates"])
    (weights,) = state["intermediates"]["attention_weights"]
    assert weights.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(weights.sum(-1), np.ones((2, 2, 3)), rtol=1e-5)
    assert not np.triu(np.asarray(weights)[0, 0], 1).any()
    np.testing.assert_allclose(plain, module.apply(variables, x), rtol=1e-6)
    np.testing.assert_allclose(out, module.apply(variables, x, mask=causal(x)), rtol=1e-4, atol=1e-5)
    assert module.apply(variables, x, mutable=["intermediates"])[1] == {}


def test_dropout():
    x = draw(2, 3, 8)
    layer = nn.MultiHeadAttention(2, dropout_rate=0.5)
    variables = layer.init(KEY, x, deterministic=True)
    rngs = {"dropout": jax.random.key(1)}
    quiet = layer.apply(variables, x, deterministic=True)
    np.testing.assert_array_equal(quiet, nn.MultiHeadAttention(2).apply(variables, x))
    loud = layer.apply(variables, x, deterministic=False, rngs=rngs)
    assert not np.allclose(quiet, loud)
    np.testing.assert_array_equal(layer.clone(deterministic=False).apply(variables, x, rngs=rngs), loud)
    given = layer.apply(variables, x, deterministic=False, dropout_rng=jax.random.key(2))
    assert not np.allclose(given, loud)
    with pytest.raises(InvalidRngError, match="dropout"):
        layer.apply(variables, x, deterministic=False)
    with pytest.raises(ValueError, match="deterministic"):
        layer.apply(variables, x)


def test_a_model_with_dropout_uses_the_fused_kernel_when_deterministic(monkeypatch):
    calls = []
    kernel = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *a, **kw: calls.append(1) or kernel(*a, **kw))
    x, layer = draw(2, 3, 8), nn.MultiHeadAttention(2, dropout_rate=0.5)
    variables = layer.init(KEY, x, deterministic=True, sow_weights=True)
    layer.apply(variables, x, deterministic=True, sow_weights=True)
    assert len(calls) == 2
    layer.apply(variables, x, deterministic=False, rngs={"dropout": KEY})
    layer.apply(variables, x, deterministic=True, sow_weights=True, mutable=["intermediates"])
    assert len(calls) == 2


def test_an_attention_function_gets_what_it_takes():
    seen = {}

    def everything(query, key, value, **options):
        seen.update(options)
        return query

    def little(query, key, value, mask=None):
        seen.update(mask=mask)
        return query

    x = draw(2, 3, 8)
    mask = causal(x)
    nn.MultiHeadAttention(2, attention_fn=everything, precision="highest").init(KEY, x, mask=mask)
    assert (seen["mask"] is mask, seen["precision"], seen["deterministic"]) == (True, "highest", True)
    assert "module" not in seen
    seen.clear()
    nn.MultiHeadAttention(2, attention_fn=little).init(KEY, x, mask=mask)
    assert list(seen) == ["mask"]
    with pytest.raises(TypeError, match="module"):
        nn.MultiHeadAttention(2, attention_fn=little).init(KEY, x, sow_weights=True)


def test_factories_of_contractions():
    made = []

    def maker(name, function):
        def make():
            made.append(name)
            return function

        return make

    x = draw(2, 3, 8)
    hooks = {
        "qkv_dot_general_cls": maker("qkv", jax.lax.dot_general),
        "out_dot_general_cls": maker("out", jax.lax.dot_general),
        "qk_attn_weights_einsum_cls": maker("weights", jnp.einsum),
        "attn_weights_value_einsum_cls": maker("values", jnp.einsum),
    }
    out, variables = nn.MultiHeadAttention(2, **hooks).init_with_output(KEY, x)
    assert made == ["qkv"] * 3 + ["weights", "values", "out"]
    np.testing.assert_allclose(out, nn.MultiHeadAttention(2).apply(variables, x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match="without the other"):
        nn.MultiHeadAttention(2, qk_attn_weights_einsum_cls=maker("weights", jnp.einsum)).init(KEY, x)


def decoder(x, **options):
    layer = nn.MultiHeadAttention(2, decode=True, **options)
    return layer, layer.init(KEY, x)


def test_the_cache():
    _, variables = decoder(draw(2, 5, 8), qkv_features=6)
    assert jax.tree.map(jnp.shape, variables["cache"]) == {
        "cached_key": (2, 5, 2, 3),
        "cached_value": (2, 5, 2, 3),
        "cache_index": (),
    }
    assert not any(leaf.any() for leaf in jax.tree.leaves(variables["cache"]))


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [3, 2], [5], [1, 4]])
@pytest.mark.parametrize("options", [{}, {"normalize_qk": True}])
def test_decoding_any_number_of_tokens_per_call(sizes, options):
    x = draw(2, 5, 8)
    layer, variables = decoder(x, **options)
    expected = layer.clone(decode=False).apply({"params": variables["params"]}, x, mask=causal(x))
    outputs, start = [], 0
    for size in sizes:
        out, cache = layer.apply(variables, x[:, start : start + size], mutable=["cache"])
        outputs.append(out)
        variables |= cache
        start += size
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), expected, rtol=1e-4, atol=1e-5)
    assert variables["cache"]["cache_index"] == 5


def test_rows_at_positions_of_their_own():
    lengths = [3, 1]
    x = draw(2, 4, 8)
    layer, variables = decoder(draw(2, 6, 8))
    _, cache = layer.apply(variables, x[:, :3], mutable=["cache"])
    variables |= {"cache": cache["cache"] | {"cache_index": jnp.array(lengths)}}
    out, cache = jax.jit(lambda v, t: layer.apply(v, t, mutable=["cache"]))(variables, x[:, 3:])
    assert cache["cache"]["cache_index"].tolist() == [4, 2]
    plain = layer.clone(decode=False)
    for row, length in enumerate(lengths):
        alone = jnp.concatenate([x[row, :length], x[row, 3:]])
        expected = plain.apply({"params": variables["params"]}, alone[-1:], alone)
        np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-5)


def test_a_mask_while_decoding():
    x = draw(2, 4, 8)
    layer, variables = decoder(x)
    allowed = jnp.array([[True, False, True, True], [True, True, False, True]])
    out, _ = layer.apply(variables, x, mask=allowed[:, None, None, :], mutable=["cache"])
    expected = layer.clone(decode=False).apply(
        {"params": variables["params"]}, x, mask=nn.combine_masks(causal(x), allowed[:, None, None, :])
    )
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_decoding_mistakes():
    x = draw(2, 4, 8)
    layer, variables = decoder(x)
    with pytest.raises(ModifyScopeVariableError, match="cache"):
        layer.apply(variables, x[:, :1])
    with pytest.raises(ShapeMismatchError, match="The new key does not fit"):
        layer.apply(variables, x[:1, :1], mutable=["cache"])
    with pytest.raises(ShapeMismatchError, match=r"The query does not fit(.|\n)*2 token(.|\n)*self-attention"):
        layer.apply(variables, x[:, :1], x[:, :2], mutable=["cache"])
    with pytest.raises(CacheFullError, match="5 token"):
        layer.apply(variables, draw(2, 5, 8), mutable=["cache"])
    _, cache = layer.apply(variables, x, mutable=["cache"])
    with pytest.raises(CacheFullError, match="4 of 4 places"):
        layer.apply(variables | cache, x[:, :1], mutable=["cache"])
    with pytest.raises(ShapeMismatchError, match=r"\(2, 2, 1, 4\)"):
        layer.apply(variables, x[:, :1], mask=jnp.ones((2, 1, 1, 3)), mutable=["cache"])


def test_inputs_that_leave_questions():
    x, layer = draw(2, 3, 8), nn.MultiHeadAttention(2)
    with pytest.raises(ArgumentError, match="inputs_v was given without inputs_k"):
        layer.init(KEY, x, inputs_v=x)
    with pytest.raises(ArgumentError, match="inputs_kv was given together"):
        layer.init(KEY, x, x, inputs_kv=x)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.MultiHeadAttention(2, name="attend")(x, inputs_v=x)

    with pytest.raises(ArgumentError, match="where: /attend"):
        Net().init(KEY, x)


def test_other_mistakes():
    with pytest.raises(ArgumentError, match=r"8 features cannot(.|\n)*num_heads=3"):
        nn.MultiHeadAttention(3).init(KEY, draw(2, 3, 8))
    with pytest.raises(ShapeMismatchError, match=r"\(2, 2, 3, 3\)(.|\n)*got: \(2, 3\)"):
        nn.MultiHeadAttention(2).init(KEY, draw(2, 3, 8), mask=jnp.ones((2, 4))[:, :3])


def test_gradients_through_the_layer_under_jit_and_remat():
    x, layer = draw(2, 3, 8), nn.MultiHeadAttention(2)
    variables = layer.init(KEY, x)

    def loss(variables):
        return (layer.apply(variables, x, mask=causal(x)) ** 2).sum()

    for a, b in zip(
        jax.tree.leaves(jax.grad(loss)(variables)), jax.tree.leaves(jax.jit(jax.grad(jax.checkpoint(loss)))(variables))
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_masks_where_values_were():
    """Old programs pass the mask third; where they get an error, a warning says why."""
    x = draw(2, 4, 8)
    layer = nn.MultiHeadAttention(2)
    variables = layer.init(KEY, x)
    with (
        pytest.warns(DeprecationWarning, match="looks like a mask"),
        pytest.raises(ScopeParamShapeError),
    ):
        layer.apply(variables, x, x, causal(x))


class Old(nn.Module):
    """A module of a user that calls attention in an old way."""

    wrap: Callable[..., Any] = lambda cls: cls

    @nn.compact
    def __call__(self, x):
        return self.wrap(nn.SelfAttention)(2)(x)


PLACES = {
    "from a script": lambda x: nn.SelfAttention(2).init(KEY, x),
    "in a method": lambda x: Old().init(KEY, x),
    "in jit": lambda x: jax.jit(Old().init)(KEY, x),
    "in lifted jit": lambda x: Old(nn.jit).init(KEY, x),
    "in remat": lambda x: Old(nn.remat).init(KEY, x),
    "in a list": lambda x: nn.Sequential([nn.SelfAttention(2)]).init(KEY, x),
}


@pytest.mark.parametrize("place", PLACES)
def test_warnings_point_at_lines_of_users(place):
    with pytest.warns(DeprecationWarning, match="SelfAttention") as caught:
        PLACES[place](jnp.ones((1, 3, 4)))
    assert {warning.filename for warning in caught} == {__file__}
