import copy
import inspect
import pickle

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.errors import ShapeMismatchError
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
    deterministic: bool = False
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

    def apply(self, v, x):
        """Doubtful arithmetic."""
        y = x @ v.kernel + v.first.reshape(1, -1)
        for block in v.blocks:
            y = block(y)
        if v.is_mutable("batch_stats"):
            v.calls = v.calls + 1
        y = v.named["last"](y)
        v.sow("intermediates", "y", y)
        return y if self.deterministic else dropout(y, self.rate, v.drop(), ())


class ScaleByHand(nnx.Module):
    def __init__(self, features, *, rngs):
        self.scale = nnx.Param(initializers.normal()(rngs.params(), (features,), jnp.float32))

    def __call__(self, x):
        return x * jnp.broadcast_to(self.scale[...], x.shape)


class WholeByHand(nnx.Module):
    def __init__(self, in_features, features, *, rate=0.5, rngs):
        self.kernel = nnx.Param(initializers.lecun_normal()(rngs.params(), (in_features, features), jnp.float32))
        self.calls = nnx.BatchStat(jnp.zeros(()))
        self.first = nnx.BatchStat(initializers.normal()(rngs.params(), (features,), jnp.float32))
        self.blocks = nnx.List([ScaleByHand(features, rngs=rngs) for _ in range(2)])
        self.named = nnx.Dict({"last": ScaleByHand(features, rngs=rngs)})
        self.drop, self.rate = rngs.dropout.fork(), rate

    def __call__(self, x):
        y = x @ self.kernel[...] + self.first[...].reshape(1, -1)
        for block in self.blocks:
            y = block(y)
        self.calls[...] = self.calls[...] + 1
        y = self.named["last"](y)
        self.sow(nnx.Intermediate, "y", y)
        return dropout(y, self.rate, self.drop(), ())


Made = nnx.from_layer(Whole)
X = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)


def assert_same(one, two):
    one, two = (nnx.to_pure_dict(nnx.state(module)) for module in (one, two))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    bits = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(bits(a), bits(b)), one, two)


def test_it_equals_the_layer_written_by_hand_to_the_bit():
    made, by_hand = Made(3, 4, rngs=nnx.Rngs(0)), WholeByHand(3, 4, rngs=nnx.Rngs(0))
    assert_same(made, by_hand)
    for _ in range(2):
        np.testing.assert_array_equal(made(X), by_hand(X))
    assert made.calls[...] == 2
    assert_same(made, by_hand)
    for module in (made, by_hand):
        nnx.pop(module, nnx.Intermediate)

    @nnx.jit
    def step(module):
        return nnx.value_and_grad(lambda module: (module(X) ** 2).sum())(module)

    (loss, gradients), (other_loss, other_gradients) = step(made), step(by_hand)
    assert loss == other_loss
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(gradients), nnx.to_pure_dict(other_gradients))


def test_signatures_are_those_of_the_layer():
    names = ["in_features", "features", "rate", "deterministic", "param_dtype", "rngs"]
    assert list(inspect.signature(Made.__init__).parameters) == ["self", *names]
    assert str(inspect.signature(Made.__call__)) == "(self, x)"
    assert (Made.__name__, Made.__module__, Made.__call__.__doc__) == ("Whole", __name__, "Doubtful arithmetic.")
    assert nnx.from_layer(Scale).__doc__ == "Multiplies each feature."
    assert nnx.from_layer(Whole) is Made


def test_parameters_have_the_dtype_that_a_field_says():
    made = Made(3, 4, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert made.kernel.dtype == jnp.bfloat16


def test_eval_and_train_set_fields():
    made = Made(3, 4, rngs=nnx.Rngs(0))
    made.eval()
    np.testing.assert_array_equal(made(X), made(X))
    made.train()
    assert (made(X) == 0).any()


def test_it_pickles_copies_and_shows_its_fields():
    made = Made(3, 4, rate=0.25, rngs=nnx.Rngs(0))
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), nnx.clone(made)):
        assert type(twin) is Made
        assert_same(made, twin)
    assert pickle.loads(pickle.dumps(Made)) is Made
    assert "rate=0.25" in repr(made)
    assert "blocks/1" in nnx.tabulate(made, X)


def test_transforms_take_it():
    make = nnx.vmap(lambda rngs: nnx.from_layer(Scale)(3, rngs=rngs))
    stack = make(nnx.Rngs(0).fork(split=3))
    assert stack.scale.shape == (3, 3)
    carry = nnx.scan(nnx.remat(lambda x, layer: layer(x)), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    np.testing.assert_allclose(carry(X, stack), X * jnp.prod(stack.scale[...], 0).reshape(1, -1), rtol=1e-6)


def test_modules_may_be_fields():
    class Twice(Layer):
        body: nnx.Module

        def apply(self, v, x):
            return self.body(self.body(x))

    body = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    twice = nnx.from_layer(Twice)(body, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(twice(X), body(body(X)))
    assert len(jax.tree.leaves(nnx.state(twice, nnx.Param))) == 2


def test_a_parameter_may_be_exchanged():
    layer = nnx.from_layer(Scale)(3, rngs=nnx.Rngs(0))
    layer.scale = nnx.Param(jnp.full(3, 2.0))
    np.testing.assert_array_equal(layer(X), 2 * X)


def test_views_and_eval_change_what_the_layer_does_in_evaluation():
    model = nnx.List([nnx.from_layer(Whole)(4, 3, rngs=nnx.Rngs(0)), nnx.from_layer(Scale)(3, rngs=nnx.Rngs(0))])
    seen = nnx.view(model, deterministic=True)
    assert (seen[0].deterministic, model[0].deterministic) == (True, False)
    assert seen[0].kernel is model[0].kernel
    assert "deterministic: bool | None = None\n    Whether to compute as in evaluation" in nnx.view_info(model)
    assert not hasattr(model[1], "set_view")
    assert nnx.view(seen, deterministic=None)[0].deterministic


class Free(Layer):
    """Divides by the root of a size, and holds nothing."""

    features: int = input_size(-1)

    def specs(self):
        return {}

    def apply(self, v, x):
        return x / jnp.sqrt(self.features)


class Twice(Layer):
    features: int = input_size(-1)

    def specs(self):
        return {"first": Scale(self.features), "second": Scale(self.features)}

    def apply(self, v, x):
        return v.second(v.first(x))


@pytest.mark.parametrize(("layer", "where"), [(Scale, "0"), (Free, "0"), (Twice, "0/first")])
def test_an_input_of_another_size_than_the_layer_was_made_for_is_refused(layer, where):
    model = nnx.List([nnx.from_layer(layer)(1, rngs=nnx.Rngs(0))])
    for call in (lambda x: model[0](x), lambda x: model[0](x=x)):
        assert call(jnp.ones((2, 1))).shape == (2, 1)
        with pytest.raises(ShapeMismatchError, match=r"\(2, 3\)") as caught:
            call(jnp.ones((2, 3)))
        assert where in caught.value.path


@pytest.mark.parametrize("layer", [Scale, Twice])
def test_a_shard_of_the_parameters_meets_a_shard_of_the_input(layer):
    model = nnx.from_layer(layer)(4, rngs=nnx.Rngs(0))
    x = jnp.arange(8.0).reshape(2, 4)
    shard = nnx.merge(nnx.graphdef(model), jax.tree.map(lambda leaf: leaf[:2], nnx.state(model)))
    assert (shard(x[:, :2]) == model(x)[:, :2]).all()
