import copy
import inspect
import pickle

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import FxError, ShapeMismatchError
from fx_core.layers import Layer, ParamSpec, State, Stream, input_size
from fx_core.ops import initializers
from fx_core.ops.dropout import dropout


class Scale(Layer):
    """Multiplies each feature."""

    features: int = input_size()

    def specs(self):
        return {"scale": ParamSpec((self.features,), initializers.normal(), ("out",))}

    def apply(self, v, x):
        return x * jnp.broadcast_to(v.scale, x.shape)


class Whole(Layer):
    in_features: int = input_size()
    features: int
    rate: float = 0.5
    param_dtype: type = jnp.float32

    def specs(self):
        kernel = ParamSpec((self.in_features, self.features), initializers.lecun_normal(), ("in", "out"))
        first = State("batch_stats", (self.features,), initializers.normal(), stream="params")
        parts = {"blocks": [Scale(self.features), Scale(self.features)], "named": {"last": Scale(self.features)}}
        return {
            "kernel": kernel,
            "bias": None,
            "calls": State("batch_stats", ()),
            "first": first,
            **parts,
            "drop": Stream("dropout"),
        }

    def apply(self, v, x, *, deterministic: bool = False):
        """Doubtful arithmetic."""
        y = x @ v.kernel + v.first.reshape(1, -1)
        for block in v.blocks:
            y = block(y)
        if v.is_mutable("batch_stats"):
            v.calls = v.calls + 1
        y = v.named["last"](y)
        v.sow("intermediates", "y", y)
        return y if deterministic else dropout(y, self.rate, v.drop(), ())


class ScaleByHand(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", initializers.normal(), x.shape[-1:])
        return x * jnp.broadcast_to(scale, x.shape)


class WholeByHand(nn.Module):
    features: int
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, *, deterministic=False):
        kernel = self.param("kernel", initializers.lecun_normal(), (x.shape[-1], self.features))
        calls = self.variable("batch_stats", "calls", jnp.zeros, ())
        first = self.variable(
            "batch_stats",
            "first",
            lambda: initializers.normal()(self.make_rng("params"), (self.features,), jnp.float32),
        )
        y = x @ kernel + first.value.reshape(1, -1)
        for i in range(2):
            y = ScaleByHand(name=f"blocks_{i}")(y)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            calls.value = calls.value + 1
        y = ScaleByHand(name="named_last")(y)
        self.sow("intermediates", "y", y)
        return y if deterministic else dropout(y, self.rate, self.make_rng("dropout"), ())


Made = nn.from_layer(Whole)
X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def assert_same(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_it_equals_the_layer_written_by_hand_to_the_bit():
    made, by_hand = Made(features=4), WholeByHand(4)
    variables = made.init(KEYS, X)
    assert_same(variables, by_hand.init(KEYS, X))
    run = {"rngs": {"dropout": KEYS["dropout"]}, "mutable": ["batch_stats", "intermediates"]}
    assert_same(made.apply(variables, X, **run), by_hand.apply(variables, X, **run))

    def loss(params, layer):
        return (layer.apply({**variables, "params": params}, X, deterministic=True) ** 2).sum()

    gradients = [jax.jit(jax.grad(loss), static_argnums=1)(variables["params"], layer) for layer in (made, by_hand)]
    assert_same(*gradients)


def test_signatures_are_those_of_the_layer():
    fields = [name for name in inspect.signature(Made).parameters if name not in ("parent", "name")]
    assert fields == ["features", "rate", "param_dtype", "in_features"]
    assert str(inspect.signature(Made.__call__)) == "(self, x, *, deterministic: bool = False)"
    assert (Made.__name__, Made.__module__, Made.__call__.__doc__) == ("Whole", __name__, "Doubtful arithmetic.")
    assert nn.from_layer(Scale).__doc__ == "Multiplies each feature."
    assert nn.from_layer(Whole) is Made


def test_sizes_of_the_input_may_be_given():
    assert Made(features=4, in_features=3).init(KEYS, X)["params"]["kernel"].shape == (3, 4)
    variables = Made(features=4).init(KEYS, X)
    with pytest.raises(FxError):
        Made(features=4, in_features=2).apply(variables, X[:, :2])


def test_parameters_have_the_dtype_that_a_field_says():
    params = Made(features=4, param_dtype=jnp.bfloat16).init(KEYS, X)["params"]
    assert params["kernel"].dtype == jnp.bfloat16


def test_it_pickles_copies_and_shows_its_fields():
    layer = Made(features=4, rate=0.25)
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), layer.clone()):
        assert twin == layer
        assert type(twin) is Made
    assert "rate = 0.25" in repr(layer)
    assert "blocks_1" in nn.tabulate(layer, KEYS)(X)


def test_transforms_take_it():
    class Step(Layer):
        features: int = input_size()

        def specs(self):
            return {"scale": Scale(self.features)}

        def apply(self, v, carry, _):
            return v.scale(carry), carry

    scanned = nn.scan(nn.from_layer(Step), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    variables = scanned().init(KEYS, X, None)
    assert variables["params"]["scale"]["scale"].shape == (3, 3)
    last, before = scanned().apply(variables, X, None)
    scales = variables["params"]["scale"]["scale"]
    np.testing.assert_allclose(last, X * jnp.prod(scales, 0).reshape(1, -1), rtol=1e-6)
    assert before.shape == (3, 2, 3)
    mapped = nn.vmap(nn.remat(nn.from_layer(Scale)), variable_axes={"params": 0}, split_rngs={"params": True})
    assert mapped().init(KEYS, X)["params"]["scale"].shape == (2, 3)


def test_modules_may_be_fields():
    class Twice(Layer):
        body: nn.Module

        def apply(self, v, x):
            return self.body(self.body(x))

    twice = nn.from_layer(Twice)(nn.Dense(3))
    variables = twice.init(KEYS, X)
    assert list(variables["params"]) == ["body"]
    expected = nn.Dense(3).apply({"params": variables["params"]["body"]}, X)
    np.testing.assert_array_equal(
        twice.apply(variables, X), nn.Dense(3).apply({"params": variables["params"]["body"]}, expected)
    )


def test_a_state_that_may_not_change_is_an_error():
    class Counter(Layer):
        def specs(self):
            return {"calls": State("batch_stats", ())}

        def apply(self, v, x):
            v.calls = v.calls + 1
            return x

    layer = nn.from_layer(Counter)()
    variables = layer.init(KEYS, X)
    with pytest.raises(FxError, match="batch_stats"):
        layer.apply(variables, X)


def test_an_input_of_another_size_than_the_layer_was_made_for_is_refused():
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.from_layer(Scale)(features=1, name="scale")(x)

    with pytest.raises(ShapeMismatchError, match=r"(?s)input of Scale does not fit its features.*scale.*features=3"):
        Outer().init(jax.random.key(0), jnp.ones((2, 3)))
    made = nn.from_layer(Scale)(features=3)
    assert made.apply(made.init(jax.random.key(0), jnp.ones((2, 3))), jnp.ones((2, 3))).shape == (2, 3)
