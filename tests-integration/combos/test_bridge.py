"""fx-bridge: the variables of a Linen model become the state of its NNX twin, and back, to the bit."""

import fx_bridge
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np


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
