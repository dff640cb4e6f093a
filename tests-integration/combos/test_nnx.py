"""fx-nnx: a model with every kind of state, trained through split and merge with nothing but JAX."""

import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np


class Model(nnx.Module):
    def __init__(self, *, rngs):
        self.hidden = nnx.Linear(3, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


def test_training_changes_parameters_and_statistics_and_lowers_the_loss():
    x = jax.random.normal(jax.random.key(1), (16, 3))
    target = x.sum(axis=1, keepdims=True)
    model = Model(rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def step(params, rest):
        def loss(params, rest):
            model = nnx.merge(graphdef, params, rest, copy=True)
            value = jnp.mean((model(x) - target) ** 2)
            return value, nnx.state(model, nnx.Not(nnx.Param))

        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, grads), rest, value

    losses = []
    for _ in range(40):
        params, rest, loss = step(params, rest)
        losses.append(float(loss))
    nnx.update(model, params, rest)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert not np.allclose(model.norm.mean[...], 0)
    model.eval()
    np.testing.assert_array_equal(model(x), model(x))
