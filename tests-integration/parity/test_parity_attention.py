"""Attention against Flax: same seed, same parameters to the bit, same outputs, decoding token by token."""

import functools
import warnings

import flax.linen as flax_nn
import fx_linen as fx_nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx as flax_nnx
from fx_core.ops import attention

BF16, F16 = jnp.bfloat16, jnp.float16
normal = jax.nn.initializers.normal(1.0)
# Both warn of the same old ways to call them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
BOTH = (fx_nn, flax_nn)


def draw(shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def some(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random(shape) > 0.4)


def same_bits(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, left), right in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b)):
        assert (left.dtype, left.shape) == (right.dtype, right.shape), path
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right), err_msg=jax.tree_util.keystr(path))


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    low = any(leaf.dtype in (BF16, F16) for leaf in jax.tree.leaves(b))
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
        left, right = np.asarray(left, np.float32), np.asarray(right, np.float32)
        scale = max(1.0, float(np.abs(right).max(initial=0.0)))
        np.testing.assert_allclose(left / scale, right / scale, rtol=0, atol=2e-2 if low else 1e-6)


@pytest.fixture(autouse=True)
def deprecations():
    """Flax announces the end of some spellings, which fx keeps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


# Functions

SHAPES = [(3, 2, 4), (2, 3, 2, 4), (2, 2, 3, 2, 4)]
KEYS = {
    "none": {},
    "bias": {"bias": lambda batch: draw((*batch, 2, 3, 5), 3)},
    "bias-shared": {"bias": lambda batch: draw((1,) * len(batch) + (2, 1, 5), 3)},
    "mask": {"mask": lambda batch: some((*batch, 1, 3, 5), 4)},
    "mask-float": {"mask": lambda batch: some((*batch, 2, 3, 5), 4).astype(jnp.float32)},
    "mask-one-key": {"mask": lambda batch: some((*batch, 1, 1, 5), 9)},
    "mask-nothing": {"mask": lambda batch: jnp.zeros((*batch, 1, 3, 5), bool)},
    "both": {"bias": lambda batch: draw((*batch, 2, 3, 5), 3), "mask": lambda batch: some((*batch, 1, 3, 5), 4)},
}
OPTIONS = {
    "plain": {},
    "highest": {"precision": "highest"},
    "dropout": {"dropout_rate": 0.4, "dropout_rng": 7},
    "dropout-each": {"dropout_rate": 0.4, "dropout_rng": 7, "broadcast_dropout": False},
    "dropout-off": {"dropout_rate": 0.4, "dropout_rng": 7, "deterministic": True},
    "bf16": {"dtype": BF16},
    "bf16-softmax": {"dtype": BF16, "force_fp32_for_softmax": True},
    "f16": {"dtype": F16},
    "softmax": {"force_fp32_for_softmax": True},
    "dot_general": {"einsum_dot_general": jax.lax.dot_general},
}


def arguments(keys, batch, options):
    arrays = {name: make(batch) for name, make in KEYS[keys].items()}
    options = dict(OPTIONS[options])
    if "dropout_rng" in options:
        options["dropout_rng"] = jax.random.key(options["dropout_rng"])
    return arrays | options


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dot_product_attention(shape, keys, options):
    batch = shape[:-3]
    q, k, v = draw(shape), draw((*batch, 5, 2, 4), 1), draw((*batch, 5, 2, 4), 2)
    kwargs = arguments(keys, batch, options)
    close(*(nn.dot_product_attention(q, k, v, **kwargs) for nn in BOTH))
    wide = draw((*batch, 5, 2, 3), 2)
    close(*(nn.dot_product_attention(q, k, wide, **kwargs) for nn in BOTH))
    close(*(nn.dot_product_attention_weights(q, k, **kwargs) for nn in BOTH))


def test_gradients():
    q, k, v, mask = draw((2, 3, 2, 4)), draw((2, 5, 2, 4), 1), draw((2, 5, 2, 4), 2), some((2, 1, 3, 5), 4)

    def gradient(nn):
        return jax.grad(lambda *qkv: nn.dot_product_attention(*qkv, mask=mask).sum(), (0, 1, 2))(q, k, v)

    close(gradient(fx_nn), gradient(flax_nn))


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("dtype", [jnp.float32, bool, jnp.int32])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
def test_masks(batch, extra, dtype):
    x, y = some((*batch, 3)), some((*batch, 4), 1)
    same_bits(*(nn.make_causal_mask(x, extra, dtype) for nn in BOTH))
    same_bits(*(nn.make_attention_mask(x, y, extra_batch_dims=extra, dtype=dtype) for nn in BOTH))
    same_bits(*(nn.make_attention_mask(x, y, jnp.logical_or, extra, dtype) for nn in BOTH))
    masks = (None, x[..., None], None, some((*batch, 1, 4), 2) * 2.0)
    same_bits(*(nn.combine_masks(*masks, dtype=dtype) for nn in BOTH))
    same_bits(*(nn.combine_masks(x * 2.0, None, dtype=dtype) for nn in BOTH))
    assert fx_nn.combine_masks(None, None) is flax_nn.combine_masks(None, None) is None


# Layers


def options_id(value):
    return ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in value.items()) or "none"


LAYERS = [
    {},
    {"qkv_features": 16},
    {"out_features": 5},
    {"qkv_features": 6, "out_features": 7, "use_bias": False},
    {"use_bias": False, "normalize_qk": True},
    {"normalize_qk": True},
    {"normalize_qk": True, "param_dtype": BF16, "dtype": jnp.float32},
    {"dtype": BF16},
    {"dtype": F16, "normalize_qk": True},
    {"param_dtype": BF16},
    {"dtype": BF16, "force_fp32_for_softmax": True},
    {"force_fp32_for_softmax": True},
    {"precision": "highest"},
    {"kernel_init": normal, "bias_init": normal},
    {"kernel_init": normal, "out_kernel_init": jax.nn.initializers.ones, "out_bias_init": normal},
    {"dropout_rate": 0.5, "deterministic": True},
    {"dropout_rate": 0.5, "deterministic": False},
    {"dropout_rate": 0.5, "deterministic": False, "broadcast_dropout": False},
    {"qkv_dot_general": jax.lax.dot_general, "out_dot_general": jax.lax.dot_general},
    {"qkv_dot_general_cls": lambda: jax.lax.dot_general, "out_dot_general_cls": lambda: jax.lax.dot_general},
    {"qk_attn_weights_einsum_cls": lambda: jnp.einsum, "attn_weights_value_einsum_cls": lambda: jnp.einsum},
]


def run(nn, layer, options, inputs, call, rngs=None):
    module = getattr(nn, layer)(num_heads=2, **options)
    keys = {"params": jax.random.key(3), "dropout": jax.random.key(4)}
    variables = module.init(keys, *inputs, **call)
    out = module.apply(
        variables, *inputs, **call, rngs=rngs or {"dropout": jax.random.key(5)}, mutable=["intermediates"]
    )
    return variables, out


@pytest.mark.parametrize("layer", ["MultiHeadDotProductAttention", "MultiHeadAttention", "SelfAttention"])
@pytest.mark.parametrize("options", LAYERS, ids=options_id)
@pytest.mark.parametrize("masked", [False, True])
def test_layer(layer, options, masked):
    call = {"mask": some((2, 1, 3, 3), 8) if masked else None, "sow_weights": masked}
    ours, theirs = (run(nn, layer, options, (draw((2, 3, 8)),), call) for nn in BOTH)
    same_bits(ours[0], theirs[0])
    close(ours[1], theirs[1])


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("inputs", ["q", "qk", "qkv", "kv"])
def test_inputs(batch, inputs):
    q, k, v = draw((*batch, 3, 8)), draw((*batch, 5, 6), 1), draw((*batch, 5, 7), 2)
    arrays = {"q": (q,), "qk": (q, k), "qkv": (q, k, v), "kv": (q,)}[inputs]
    call = {"inputs_kv": k} if inputs == "kv" else {}
    ours, theirs = (run(nn, "MultiHeadDotProductAttention", {}, arrays, call) for nn in BOTH)
    same_bits(ours[0], theirs[0])
    close(ours[1], theirs[1])


@pytest.mark.parametrize(
    "rngs", [{"params": jax.random.key(1)}, {"dropout": jax.random.key(1)}], ids=["params", "dropout"]
)
def test_dropout_keys(rngs):
    options, x = {"dropout_rate": 0.5}, draw((2, 3, 8))
    for call in ({"deterministic": False}, {"deterministic": False, "dropout_rng": jax.random.key(9)}):
        close(*(run(nn, "MultiHeadDotProductAttention", options, (x,), call, rngs)[1] for nn in BOTH))


@pytest.mark.parametrize("layer", ["MultiHeadDotProductAttention", "SelfAttention"])
@pytest.mark.parametrize(
    "options", [{}, {"normalize_qk": True}, {"dropout_rate": 0.5, "deterministic": False}], ids=options_id
)
def test_intermediates(layer, options):
    x = draw((2, 3, 8))

    def states(nn):
        module = getattr(nn, layer)(num_heads=2, **options)
        rngs = {"params": jax.random.key(3), "dropout": jax.random.key(4)}
        variables = module.init(rngs, x)
        return module.apply(variables, x, sow_weights=True, capture_intermediates=True, mutable=True, rngs=rngs)[1]

    close(states(fx_nn), states(flax_nn))


def hooked(nn):
    class Multiply(nn.Module):
        factor: float = 2.0

        @nn.compact
        def __call__(self, *args, **kwargs):
            scale = self.param("scale", normal, ())
            return (jnp.einsum if isinstance(args[0], str) else jax.lax.dot_general)(*args, **kwargs) * scale

    return {
        "qkv_dot_general_cls": Multiply,
        "out_dot_general_cls": Multiply,
        "qk_attn_weights_einsum_cls": Multiply,
        "attn_weights_value_einsum_cls": functools.partial(Multiply, 3.0),
    }


def test_hooks_with_parameters():
    ours, theirs = (run(nn, "MultiHeadAttention", hooked(nn), (draw((2, 3, 8)),), {}) for nn in BOTH)
    same_bits(ours[0], theirs[0])
    close(ours[1], theirs[1])


@pytest.mark.parametrize("masked", [False, True])
def test_attention_fn_gets_what_it_names(masked):
    seen = []

    def all_named(query, key, value, mask=0, broadcast_dropout=0, dropout_rng=0, dropout_rate=0, deterministic=0,
                  dtype=0, precision=0, module=0, force_fp32_for_softmax=0, einsum_dot_general=0,
                  qk_attn_weights_einsum=0, attn_weights_value_einsum=0):  # fmt: skip
        given = {name: value for name, value in locals().items() if name not in ("module", "seen")}
        given["module"] = module if module == 0 else type(module).__name__
        seen.append(jax.tree.map(lambda x: (x.shape, str(x.dtype)) if hasattr(x, "shape") else x, given))
        return query

    def few_named(query, key, value, deterministic):
        seen.append(deterministic)
        return query

    options = {"dropout_rate": 0.5, "deterministic": False, "precision": "highest", "dtype": jnp.float32}
    for fn in (all_named,) if masked else (all_named, few_named):
        seen.clear()
        call = {"mask": some((2, 1, 3, 3)), "sow_weights": True} if masked else {}
        for nn in BOTH:
            run(nn, "MultiHeadDotProductAttention", options | {"attention_fn": fn}, (draw((2, 3, 8)),), call)
        assert seen[0] == seen[1] == seen[2] == seen[3]


# Decoding


@pytest.mark.parametrize("options", [{}, {"dtype": BF16}, {"normalize_qk": True, "qkv_features": 12}], ids=options_id)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_decoding(batch, options, masked):
    x = draw((*batch, 4, 8))
    mask = some((*batch, 1, 1, 4), 5).at[..., 0].set(True) if masked else None
    ours, theirs = (nn.MultiHeadDotProductAttention(num_heads=2, decode=True, **options) for nn in BOTH)
    state, reference = ours.init(jax.random.key(1), x), theirs.init(jax.random.key(1), x)
    same_bits(state, reference)
    step = jax.jit(lambda s, t: ours.apply(s, t, mask=mask, mutable=["cache"]))
    for i in range(4):
        token = x[..., i : i + 1, :]
        got, cache = step(state, token)
        expected, reference_cache = theirs.apply(reference, token, mask=mask, mutable=["cache"])
        close((got, cache), (expected, reference_cache))
        state, reference = state | cache, reference | reference_cache


def test_decoding_goes_on_from_a_cache_of_flax():
    x = draw((2, 5, 8))
    ours, theirs = (nn.SelfAttention(num_heads=2, decode=True) for nn in BOTH)
    state = theirs.init(jax.random.key(1), x)
    expected = []
    for i in range(5):
        out, cache = theirs.apply(state, x[:, i : i + 1], mutable=["cache"])
        expected.append(out)
        if i == 1:
            handed_over = state | cache
        state = state | cache
    got, ours_after = ours.apply(handed_over, x[:, 2:], mutable=["cache"])
    close(got, jnp.concatenate(expected[2:], axis=1))
    close(ours_after, {"cache": state["cache"]})


def test_a_cache_made_by_apply():
    x = draw((2, 4, 8))
    ours, theirs = (nn.MultiHeadDotProductAttention(num_heads=2, decode=True) for nn in BOTH)
    params = {"params": ours.init(jax.random.key(1), x)["params"]}
    close(*(module.apply(params, x, mutable=["cache"]) for module in (ours, theirs)))


# Grouped heads


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"dropout_rate": 0.3, "dropout_rng": 1}], ids=options_id)
def test_grouped_heads(kv_heads, options):
    options = {k: jax.random.key(v) if k == "dropout_rng" else v for k, v in options.items()}
    q, k, v = draw((2, 5, 4, 6)), draw((2, 5, kv_heads, 6), 1), draw((2, 5, kv_heads, 6), 2)
    close(attention.dot_product_attention(q, k, v, **options), flax_nnx.dot_product_attention(q, k, v, **options))
