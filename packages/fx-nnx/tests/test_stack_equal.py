"""Equal layers as one loop: the numbers, states and errors of the loop of Python."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import pytest
from fx_transforms.errors import TransformError


class Block(nnx.Module):
    def __init__(self, rngs, width=4):
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.linear = nnx.Linear(4, width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x, scale=1.0):
        return x + self.drop(self.linear(nnx.relu(self.norm(x)))) * scale


def blocks(count=3):
    return nnx.List([Block(nnx.Rngs(i)) for i in range(count)])


def by_loop(layers, x, scale):
    for layer in layers:
        x = layer(x, scale=scale)
    return x


def stacked(layers, x, scale):
    return nnx.stack_equal(layers, x, scale=scale)


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert jnp.allclose(x, y, rtol=1e-5, atol=1e-6)


X = jnp.linspace(-1, 1, 12).reshape(3, 4)


def test_output_gradient_and_state_are_those_of_the_loop():
    def run(call):
        layers = blocks()

        @nnx.jit
        def step(layers, x):
            loss = lambda layers: (call(layers, x, 0.5) ** 2).mean()  # noqa: E731
            return nnx.value_and_grad(loss)(layers)

        return [step(layers, X) for _ in range(2)], nnx.state(layers)

    ours, theirs = run(stacked), run(by_loop)
    for one, other in zip(ours[0], theirs[0]):
        close(one, other)
    close(ours[1], theirs[1])


def test_the_block_is_traced_once():
    traced = []

    class Counted(nnx.Linear):
        def __call__(self, x):
            traced.append(1)
            return super().__call__(x)

    layers = nnx.List([Counted(4, 4, rngs=nnx.Rngs(i)) for i in range(5)])
    nnx.jit(lambda layers, x: nnx.stack_equal(layers, x))(layers, X)
    assert traced == [1]


def test_outside_of_a_trace_it_is_the_loop():
    layers, same = blocks(), blocks()
    close(stacked(layers, X, 0.5), by_loop(same, X, 0.5))
    close(nnx.state(layers), nnx.state(same))


@pytest.mark.parametrize(
    "second", [lambda: nnx.Linear(4, 4, use_bias=False, rngs=nnx.Rngs(0)), lambda: nnx.Linear(4, 5, rngs=nnx.Rngs(0))]
)
def test_unequal_layers_are_refused(second):
    layers = nnx.List([nnx.Linear(4, 4, rngs=nnx.Rngs(0)), second()])
    with pytest.raises(TransformError, match="layer 1"):
        nnx.jit(lambda layers, x: nnx.stack_equal(layers, x))(layers, X)


def test_layers_that_share_variables_are_refused():
    layers = [nnx.Linear(4, 4, rngs=nnx.Rngs(i)) for i in range(2)]
    layers[1].kernel = layers[0].kernel
    with pytest.raises(TransformError, match="layers 0 and 1 share"):
        nnx.jit(lambda layers, x: nnx.stack_equal(layers, x))(nnx.List(layers), X)
