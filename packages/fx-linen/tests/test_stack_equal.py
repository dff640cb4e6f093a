"""Equal layers as one loop: the numbers, variables and errors of the loop of Python."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import pytest
from fx_transforms.errors import TransformError


class Block(nn.Module):
    features: int = 4

    @nn.compact
    def __call__(self, x, scale=1.0):
        y = nn.BatchNorm(use_running_average=not self.is_mutable_collection("batch_stats"))(x)
        y = nn.Dense(self.features)(nn.relu(y)) * scale
        self.sow("intermediates", "y", y)
        return x + y


class Net(nn.Module):
    stacked: bool

    @nn.compact
    def __call__(self, x):
        blocks = [Block(name=f"block_{i}") for i in range(3)]
        if self.stacked:
            x = nn.stack_equal(blocks, x, scale=0.5)
        else:
            for block in blocks:
                x = block(x, scale=0.5)
        return nn.Dense(2)(x)


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.all(jax.tree.map(lambda x, y: bool(jnp.allclose(x, y, rtol=1e-5, atol=1e-6)), a, b))


X = jnp.linspace(-1, 1, 12).reshape(3, 4)


@pytest.fixture(scope="module")
def variables():
    return Net(False).init(jax.random.key(0), X)


def test_variables_are_those_of_the_loop(variables):
    close(Net(True).init(jax.random.key(0), X), variables)


def test_output_gradient_and_changed_variables_are_those_of_the_loop(variables):
    def run(stacked):
        def loss(params):
            out, new = Net(stacked).apply({**variables, "params": params}, X, mutable=["batch_stats", "intermediates"])
            return (out**2).mean(), (out, new)

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    close(run(True), run(False))


def test_the_block_is_traced_once(variables):
    traced = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            traced.append(1)
            return nn.Dense(4)(x)

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.stack_equal([Counted(name=f"c{i}") for i in range(5)], x)

    params = Stack().init(jax.random.key(0), X)
    traced.clear()
    program = jax.jit(Stack().apply).trace(params, X).jaxpr
    assert traced == [1]
    assert sum(eqn.primitive.name == "scan" for eqn in program.eqns) == 1


def test_layers_draw_their_own_keys():
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            drop = [nn.Dropout(0.5, deterministic=False, name=f"d{i}") for i in range(2)]
            return nn.stack_equal(drop, x)

    out = jax.jit(lambda key: Stack().apply({}, jnp.ones((64, 64)), rngs={"dropout": key}))(jax.random.key(0))
    assert 0.15 < float((out > 0).mean()) < 0.35  # two masks of a half each that were one would leave a half


@pytest.mark.parametrize(
    "make", [lambda: [Block(name="a"), Block(5, name="b")], lambda: [Block(name="a"), nn.Dense(4, name="b")]]
)
def test_unequal_layers_are_refused(make):
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.stack_equal(make(), x)

    with pytest.raises(TransformError, match="layer 1"):
        jax.eval_shape(lambda x: Stack().apply({"params": {}}, x), X)


def test_one_layer_twice_is_refused():
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(4)
            return nn.stack_equal([layer, layer], x)

    params = Stack().init(jax.random.key(0), X)
    with pytest.raises(TransformError, match="twice"):
        jax.eval_shape(Stack().apply, params, X)
