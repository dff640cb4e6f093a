"""Channels and heads are removed for real, in both faces, and what remains computes what the masked model does."""

import fx_compress
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_compress import Channels

IMAGE, TOKENS = jax.random.normal(jax.random.key(0), (2, 4, 4, 3)), jax.random.normal(jax.random.key(1), (2, 5, 12))
HALF = Channels(0.5)
EVALUATION = {"deterministic": True, "use_running_average": True}


class Residual(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.inner = nnx.Conv(8, 6, (3, 3), rngs=rngs)
        self.back = nnx.Conv(6, 8, (1, 1), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(2 * 2 * 8, 5, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.gelu(self.norm(self.stem(x)))
        x = x + self.back(jax.nn.relu(self.inner(x)))
        x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return self.head(self.dropout(x.reshape(x.shape[0], -1)))


def shapes(report):
    return {row.path: row.after for row in report.rows}


def test_residual_channels_go_through_norms_pools_and_flattening():
    model = Residual(nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda x: x + 0.3, nnx.state(model, nnx.BatchStat)))
    smaller, report = fx_compress.remove_channels(model, {"stem/kernel": HALF, "inner/kernel": Channels(0.34)}, IMAGE)
    assert shapes(report) == {
        "stem/kernel": (3, 3, 3, 4),
        "norm/bias": (4,),
        "norm/mean": (4,),
        "norm/scale": (4,),
        "norm/var": (4,),
        "inner/kernel": (3, 3, 4, 4),
        "inner/bias": (4,),
        "back/kernel": (1, 1, 4, 4),
        "back/bias": (4,),
        "head/kernel": (16, 5),
    }
    masked = fx_compress.apply_masks(model, report.masks)
    masked.eval()
    np.testing.assert_allclose(nnx.view(smaller, **EVALUATION)(IMAGE), masked(IMAGE), rtol=1e-4, atol=1e-5)
    assert (smaller.inner.in_features, smaller.inner.out_features, smaller.norm.num_features) == (4, 4, 4)
    assert model.stem.kernel.shape == (3, 3, 3, 8)
    # It trains on, like any other module.
    assert not smaller.norm.use_running_average
    grads = nnx.grad(lambda m: m(IMAGE).sum())(smaller)
    assert grads["head"]["kernel"].shape == (16, 5)


def test_the_smallest_features_go():
    variables = {"a": {"kernel": jnp.array([[3.0, 0.1, 2.0, 0.2]])}, "b": {"kernel": jnp.ones((4, 1))}}
    rules = {"a/*": HALF}
    smaller, report = fx_compress.remove_channels(variables, rules, jnp.ones((1, 1)), function=mlp)
    np.testing.assert_array_equal(smaller["a"]["kernel"], [[3.0, 2.0]])
    np.testing.assert_array_equal(report.masks["b/kernel"][:, 0], [True, False, True, False])


def mlp(v, x):
    return jax.nn.relu(x @ v["a"]["kernel"]) @ v["b"]["kernel"]


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(12, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 12, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(12, 16, rngs=rngs), nnx.Linear(16, 12, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.down(jax.nn.gelu(self.up(self.norm(x))))


def test_heads_are_removed():
    model = Attention(nnx.Rngs(0))
    rules = {"attention/query/kernel": Channels(0.5, axis=-2), "up/kernel": HALF}
    smaller, report = fx_compress.remove_channels(model, rules, TOKENS)
    found = shapes(report)
    assert found["attention/query/kernel"] == found["attention/value/kernel"] == (12, 2, 3)
    assert found["attention/key/bias"] == (2, 3)
    assert found["attention/out/kernel"] == (2, 3, 12)
    assert found["down/kernel"] == (8, 12)
    assert (smaller.attention.num_heads, smaller.attention.qkv_features) == (2, 6)
    masked = fx_compress.apply_masks(model, report.masks)
    np.testing.assert_allclose(nnx.jit(lambda m, x: m(x))(smaller, TOKENS), masked(TOKENS), rtol=1e-4, atol=1e-5)


class UNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.down = nnx.Conv(8, 6, (3, 3), strides=2, rngs=rngs)
        self.up = nnx.ConvTranspose(6, 4, (2, 2), strides=2, rngs=rngs)
        self.last = nnx.Conv(12, 12, (3, 3), rngs=rngs)
        self.head = nnx.Conv(12, 2, (1, 1), rngs=rngs)

    def __call__(self, x):
        first = jax.nn.relu(self.first(x))
        joined = jnp.concatenate([first, self.up(jax.nn.relu(self.down(first)))], -1)
        return self.head(jax.nn.relu(joined + self.last(joined)))


@pytest.mark.parametrize(
    ("rules", "first", "up", "joined"),
    [
        ({"first/kernel": HALF}, 4, 4, 8),
        ({"up/kernel": HALF}, 8, 2, 10),
        ({"first/kernel": HALF, "up/kernel": HALF}, 4, 2, 6),
        ({"up/kernel": HALF, "first/kernel": Channels(0.25)}, 6, 2, 8),
    ],
)
def test_features_that_are_concatenated_with_others_go_alone(rules, first, up, joined):
    model = UNet(nnx.Rngs(0))
    smaller, report = fx_compress.remove_channels(model, rules, IMAGE)
    assert smaller.first.kernel.shape == (3, 3, 3, first)
    assert smaller.up.kernel.shape == (2, 2, 6, up)
    assert smaller.last.kernel.shape == (3, 3, joined, joined)
    assert smaller.head.kernel.shape == (1, 1, joined, 2)
    masked = fx_compress.apply_masks(model, report.masks)
    np.testing.assert_allclose(smaller(IMAGE), masked(IMAGE), rtol=1e-4, atol=1e-5)


def test_what_is_joined_with_itself_is_removed_in_every_place():
    def network(v, x):
        y = x @ v["a"]["kernel"]
        return jnp.concatenate([jax.nn.relu(y), jax.nn.relu(-y)], -1) @ v["b"]["kernel"]

    keys = jax.random.split(jax.random.key(0), 2)
    kernels = [jax.random.normal(keys[0], (5, 4)), jax.random.normal(keys[1], (8, 3))]
    variables = {"a": {"kernel": kernels[0]}, "b": {"kernel": kernels[1]}}
    _, report = fx_compress.remove_channels(variables, {"a/kernel": HALF}, jnp.ones((2, 5)), function=network)
    assert shapes(report) == {"a/kernel": (5, 2), "b/kernel": (4, 3)}
    kept = np.asarray(report.masks["b/kernel"][:, 0])
    np.testing.assert_array_equal(kept[:4], kept[4:])


class Separable(nnx.Module):
    def __init__(self, rngs):
        self.wide = nnx.Conv(3, 8, (1, 1), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.depthwise = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
        self.narrow = nnx.Conv(8, 4, (1, 1), rngs=rngs)

    def __call__(self, x):
        return self.narrow(jax.nn.relu(self.depthwise(jax.nn.relu(self.norm(self.wide(x))))))


@pytest.mark.parametrize("layer", ["wide", "depthwise"])
def test_a_window_for_each_feature_goes_with_its_feature(layer):
    model = Separable(nnx.Rngs(0))
    smaller, report = fx_compress.remove_channels(model, {f"{layer}/kernel": HALF}, IMAGE)
    assert smaller.depthwise.kernel.shape == (3, 3, 1, 4)
    assert smaller.depthwise.feature_group_count == smaller.depthwise.in_features == 4
    masked = fx_compress.apply_masks(model, report.masks)
    smaller.eval(), masked.eval()
    np.testing.assert_allclose(smaller(IMAGE), masked(IMAGE), rtol=1e-4, atol=1e-5)


def test_a_smaller_model_trains_on_without_warnings_about_how_it_was_made(caplog):
    smaller, _ = fx_compress.remove_channels(Separable(nnx.Rngs(0)), {"wide/kernel": HALF}, IMAGE)
    nnx.jit(nnx.grad(lambda model: model(IMAGE).sum()))(smaller)
    smaller(IMAGE)
    assert not caplog.records


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"down/kernel": HALF}, "compared with each other, as in a norm over features|the result"),
        ({"attention/query/kernel": HALF}, "two activations are multiplied and summed up"),
        ({"norm/scale": HALF}, "is for no parameter"),
    ],
)
def test_features_that_something_else_needs_stay(rules, why):
    with pytest.raises((fx_compress.StructureError, fx_compress.RuleError), match=f"(?s){why}"):
        fx_compress.remove_channels(Attention(nnx.Rngs(0)), rules, TOKENS)


class Linen(nn.Module):
    hidden: int = 8
    heads: int = 4

    @nn.compact
    def __call__(self, x, train=True):
        x = x + nn.MultiHeadDotProductAttention(self.heads, qkv_features=3 * self.heads, out_features=12)(x)
        y = nn.BatchNorm(use_running_average=not train)(nn.Dense(self.hidden, use_bias=False)(x))
        return nn.Dense(2)(jax.nn.relu(y).mean(1))


def test_linen_variables_become_smaller_for_a_module_with_smaller_fields():
    variables = Linen().init(jax.random.key(0), TOKENS, train=False)
    rules = {"*/query/kernel": Channels(0.25, axis=-2), "*/Dense_0/kernel": HALF}
    (module, smaller), report = fx_compress.remove_channels(
        (Linen(), variables), rules, TOKENS, module=Linen(hidden=4, heads=3), train=False
    )
    assert module.hidden == 4
    assert smaller["params"]["Dense_0"]["kernel"].shape == (12, 4)
    assert smaller["batch_stats"]["BatchNorm_0"]["var"].shape == (4,)
    masked = fx_compress.apply_masks(variables, report.masks)
    want = Linen().apply(masked, TOKENS, train=False)
    np.testing.assert_allclose(module.apply(smaller, TOKENS, train=False), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(fx_compress.StructureError, match=r"(?s)params/Dense_0/kernel is \[12, 4\].*pass module="):
        fx_compress.remove_channels((Linen(), variables), {"*/Dense_0/kernel": HALF}, TOKENS, train=False)


def functions():
    wide = jnp.linspace(1.0, 2.0, 8)[None]

    def normalized(v, x):
        y = x @ v["a"]["kernel"]
        return (y - y.mean(-1, keepdims=True)) @ v["b"]["kernel"]

    def tiled(v, x):
        y = x @ v["a"]["kernel"]
        first = jnp.broadcast_to(y[:, :, None], (2, 8, 2)).reshape(2, 16)
        second = jnp.broadcast_to(y[:, None, :], (2, 2, 8)).reshape(2, 16)
        return (first + second) @ jnp.broadcast_to(v["b"]["kernel"][None], (2, 8, 3)).reshape(16, 3)

    def swapped(v, x):
        return (x @ v["a"]["kernel"]).reshape(-1, 2, 4).swapaxes(1, 2).reshape(-1, 8) @ v["b"]["kernel"]

    def looped(v, x):
        y = x @ v["a"]["kernel"]
        return jax.lax.fori_loop(0, 2, lambda _, y: jnp.tanh(y), y) @ v["b"]["kernel"]

    return {
        "the result": lambda v, x: (mlp(v, x), x @ v["a"]["kernel"]),
        "an input": lambda v, x: (x[:, :1] @ v["a"]["kernel"] + x) @ v["b"]["kernel"],
        "as in a norm over features": normalized,
        "nothing is known of this operation": looped,
        "they are cut": lambda v, x: (x @ v["a"]["kernel"])[:, :4] @ v["b"]["kernel"][:4],
        "has an entry for each": lambda v, x: (x @ v["a"]["kernel"] * wide) @ v["b"]["kernel"],
        "mixes them with others|different orders": tiled,
        "a reshape mixes them": swapped,
    }


@pytest.mark.parametrize("why", functions())
def test_functions_that_cannot_lose_features(why):
    keys = jax.random.split(jax.random.key(0), 2)
    size = 1 if why == "an input" else 8
    kernels = [jax.random.normal(keys[0], (size, 8)), jax.random.normal(keys[1], (8, 3))]
    variables = {"a": {"kernel": kernels[0]}, "b": {"kernel": kernels[1]}}
    with pytest.raises(fx_compress.StructureError, match=f"(?s)where: a/kernel.*{why}"):
        fx_compress.remove_channels(variables, {"a/kernel": HALF}, jnp.ones((2, 8)), function=functions()[why])


def test_bad_fractions_and_missing_inputs_are_refused():
    with pytest.raises(fx_compress.MaskError, match="no fraction of features"):
        Channels(1.0)
    with pytest.raises(fx_compress.StructureError, match="followed through a traced program"):
        fx_compress.remove_channels({"a": {"kernel": jnp.ones((2, 2))}}, HALF)
