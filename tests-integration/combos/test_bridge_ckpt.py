"""fx-bridge with fx-ckpt: checkpoints of a Linen model load into its NNX twin, and those of the twin into the model."""

import fx_bridge
import fx_ckpt
import fx_linen as nn
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

X = jnp.array([[1.0, 2.0], [3.0, -1.0]])


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


@pytest.mark.parametrize("backend", ["msgpack", "safetensors", "orbax"])
def test_a_checkpoint_of_either_kind_loads_into_the_twin(tmp_path, backend):
    variables = LinenModel().init(jax.random.key(0), X)
    path = fx_ckpt.save(tmp_path / "linen", variables, backend=backend)
    model = NnxModel(rngs=nnx.Rngs(1))
    state, report = fx_bridge.to_nnx_state(fx_ckpt.restore(path, variables), like=model)
    assert report.complete
    nnx.update(model, state)
    np.testing.assert_array_equal(model(X), LinenModel().apply(variables, X))

    path = fx_ckpt.save(tmp_path / "nnx", nnx.state(model), backend=backend)
    restored = fx_ckpt.restore(path, nnx.state(NnxModel(rngs=nnx.Rngs(2))))
    back, report = fx_bridge.to_linen_variables(restored)
    assert report.complete
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
