"""fx-bridge: the variables of a Linen model become the state of its NNX twin, and back, to the bit."""

import fx_bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest


class LinenModel(nn.Module):
    def setup(self):
        self.dense = nn.Dense(3)
        self.norm = nn.BatchNorm(use_running_average=True)

    def __call__(self, x):
        return self.norm(self.dense(x))


class NnxModel(nnx.Module):
    def __init__(self, *, rngs):
        self.dense = nnx.Linear(2, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.dense(x))


def test_twins_give_the_same_output_and_variables_come_back():
    x = jnp.array([[1.0, 2.0], [3.0, -1.0]])
    variables = LinenModel().init(jax.random.key(0), x)
    model = NnxModel(rngs=nnx.Rngs(1))
    state, report = fx_bridge.to_nnx_state(variables, like=model)
    assert report.complete
    nnx.update(model, state)
    np.testing.assert_array_equal(model(x), LinenModel().apply(variables, x))
    back, report = fx_bridge.to_linen_variables(nnx.state(model))
    assert report.complete
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(variables)):
        np.testing.assert_array_equal(one, other)


# --- trained half in one package and half in the other ----------------------------------------------------------------


class LinenResidual(nn.Module):
    features: int

    def setup(self):
        self.conv1, self.conv2 = (nn.Conv(self.features, (3, 3), use_bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm(momentum=0.9), nn.BatchNorm(momentum=0.9)

    def __call__(self, x):
        y = nn.relu(self.norm1(self.conv1(x), use_running_average=False))
        return nn.relu(x + self.norm2(self.conv2(y), use_running_average=False))


class NnxResidual(nnx.Module):
    def __init__(self, features, *, rngs):
        self.conv1, self.conv2 = (nnx.Conv(features, features, (3, 3), use_bias=False, rngs=rngs) for _ in range(2))
        self.norm1, self.norm2 = (nnx.BatchNorm(features, momentum=0.9, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(x + self.norm2(self.conv2(y)))


class LinenAttention(nn.Module):
    features: int

    def setup(self):
        self.norm1, self.norm2 = nn.LayerNorm(), nn.LayerNorm()
        self.attention = nn.MultiHeadDotProductAttention(num_heads=2)
        self.up, self.down = nn.Dense(2 * self.features), nn.Dense(self.features)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nn.gelu(self.up(self.norm2(x))))


class NnxAttention(nnx.Module):
    def __init__(self, features, *, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(features, rngs=rngs), nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, features, decode=False, rngs=rngs)
        self.up = nnx.Linear(features, 2 * features, rngs=rngs)
        self.down = nnx.Linear(2 * features, features, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class LinenNetwork(nn.Module):
    blocks: tuple

    @nn.compact
    def __call__(self, x):
        for i, block in enumerate(self.blocks):
            x = block(f"block{i}")(x)
        return nn.Dense(2, name="head")(x.mean(1))


class NnxNetwork(nnx.Module):
    def __init__(self, blocks, features, *, rngs):
        for i, block in enumerate(blocks):
            setattr(self, f"block{i}", block(rngs))
        self.blocks = len(blocks)
        self.head = nnx.Linear(features, 2, rngs=rngs)

    def __call__(self, x):
        for i in range(self.blocks):
            block = getattr(self, f"block{i}")
            x = block(x, mutable=["batch_stats"]) if isinstance(block, fx_bridge.ToNNX) else block(x)
        return self.head(x.mean(1))


NETWORKS = {
    "resnet": (LinenResidual, NnxResidual, (2, 5, 5, 4)),
    "transformer": (LinenAttention, NnxAttention, (2, 5, 4)),
}


def train_linen(model, variables, x, steps=3):
    @jax.jit
    def step(variables):
        def loss(params):
            out, updates = model.apply({**variables, "params": params}, x, mutable=["batch_stats"])
            return (out**2).mean(), updates

        (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        return value, {**updates, "params": jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], grads)}

    losses = []
    for _ in range(steps):
        value, variables = step(variables)
        losses.append(value)
    return losses, variables


def train_nnx(model, x, steps=3):
    @nnx.jit
    def step(model):
        value, grads = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(model, nnx.Param), grads))
        return value

    return [step(model) for _ in range(steps)], nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat)))


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_half_in_nnx_as_wholly_in_linen(name):
    linen, other, shape = NETWORKS[name]
    x, width = jax.random.normal(jax.random.key(1), shape), shape[-1]
    native = lambda name: linen(width, name=name)  # noqa: E731
    moved = lambda name: fx_bridge.to_linen(other, width, name=name)  # noqa: E731
    pure, half = LinenNetwork((native, native)), LinenNetwork((native, moved))
    variables = pure.init(jax.random.key(0), x)
    assert jax.tree.structure(half.init(jax.random.key(0), x)) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, train_linen(half, variables, x), train_linen(pure, variables, x))


@pytest.mark.parametrize("name", NETWORKS)
def test_trained_half_in_linen_as_wholly_in_nnx(name):
    linen, other, shape = NETWORKS[name]
    x, width = jax.random.normal(jax.random.key(1), shape), shape[-1]
    native = lambda rngs: other(width, rngs=rngs)  # noqa: E731
    moved = lambda rngs: fx_bridge.ToNNX(linen(width), rngs=rngs)  # noqa: E731
    pure = NnxNetwork((native, native), width, rngs=nnx.Rngs(0))
    half = fx_bridge.lazy_init(NnxNetwork((native, moved), width, rngs=nnx.Rngs(7)), x)
    nnx.update(half, nnx.state(nnx.clone(pure), (nnx.Param, nnx.BatchStat)))
    jax.tree.map(np.testing.assert_array_equal, train_nnx(half, x), train_nnx(pure, x))


def test_a_linen_checkpoint_loads_into_the_nnx_twin_and_back():
    linen, other, shape = NETWORKS["transformer"]
    x, width = jnp.ones(shape), shape[-1]
    model = LinenNetwork((lambda name: linen(width, name=name),))
    variables = model.init(jax.random.key(0), x)
    twin = NnxNetwork((lambda rngs: other(width, rngs=rngs),), width, rngs=nnx.Rngs(0))
    state, report = fx_bridge.convert_variables(variables, like=twin)
    assert report.complete
    nnx.update(twin, state)
    np.testing.assert_array_equal(twin(x), model.apply(variables, x))
    back, report = fx_bridge.convert_variables(twin, like=variables)
    assert report.complete
    jax.tree.map(np.testing.assert_array_equal, back, variables)
