"""fx-linen: a network with every kind of state, trained with nothing but JAX."""

import fx_linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.5)(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2)).reshape(x.shape[0], -1)
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(1)(x)


def test_training_changes_parameters_and_statistics_and_lowers_the_loss():
    x = jax.random.normal(jax.random.key(1), (16, 4, 4, 1))
    target = x.mean(axis=(1, 2))
    variables = Network().init(jax.random.key(0), x)
    initial_mean = variables["batch_stats"]["BatchNorm_0"]["mean"]

    @jax.jit
    def step(variables, key):
        def loss(params):
            y, updates = Network().apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
            )
            return jnp.mean((y - target) ** 2), updates

        (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], grads)
        return {"params": params, **updates}, value

    losses = []
    for key in jax.random.split(jax.random.key(2), 40):
        variables, loss = step(variables, key)
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert not np.allclose(variables["batch_stats"]["BatchNorm_0"]["mean"], initial_mean)
    evaluated = Network().apply(variables, x)
    np.testing.assert_array_equal(evaluated, Network().apply(variables, x))
