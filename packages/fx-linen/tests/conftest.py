"""Comparing networks with and without remat."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
X = jnp.linspace(-1.0, 1.0, 8).reshape(2, 4)


def plain(cls, **options):
    del options
    return cls


class Stack(nn.Module):
    """Layers under explicit names, so that variables are the same with and without the transform."""

    make: object
    count: int = 3

    @nn.compact
    def __call__(self, x):
        for number in range(self.count):
            x = self.make(f"layer_{number}")(x)
        return x


def same(make, *, mutable=(), compiled=True, grads=False, steps=1):
    """Compare values, updates and gradients of ``make(nn.remat)`` and ``make(identity)``."""
    results = []
    for transform in (nn.remat, plain):
        model = make(transform)
        variables = model.init(KEYS, X)

        def loss(params, rest, model=model):
            rngs = {"dropout": KEYS["dropout"]}
            y, state = model.apply({**rest, "params": params}, X, rngs=rngs, mutable=list(mutable))
            return jnp.sum(y**2), (y, state)

        params, rest = variables.get("params", {}), {k: v for k, v in variables.items() if k != "params"}
        run = jax.value_and_grad(loss, has_aux=True) if grads else loss
        run = jax.jit(run) if compiled else run
        for _ in range(steps):
            results.append(run(params, rest))
            state = (results[-1][0] if grads else results[-1])[1][1]
            rest = {**rest, **{k: v for k, v in state.items() if k in rest}}
    half = len(results) // 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), results[:half], results[half:])
    return state


def counted(body=None):
    traces = []

    class Layer(nn.Module):
        width: int = 4
        offset: object = 0.0
        config: object = None

        @nn.compact
        def __call__(self, x):
            if not self.is_initializing():
                traces.append(1)
            x = x + nn.Dense(self.width)(nn.tanh(x)) * 0.5 + self.offset
            return x if body is None else body(self, x)

    return Layer, traces


@pytest.fixture(name="same")
def _same():
    return same


@pytest.fixture(name="counted")
def _counted():
    return counted


@pytest.fixture(name="stack")
def _stack():
    """Make a network of layers ``cls(name="layer_0")`` and so on."""
    return lambda cls, count=3: Stack(lambda name: cls(name=name), count)
