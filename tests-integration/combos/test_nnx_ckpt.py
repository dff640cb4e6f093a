"""fx-nnx with fx-ckpt and its Orbax extra: a model's state comes back to the bit."""

import fx_ckpt
import fx_nnx as nnx
import jax
import numpy as np
import pytest


@pytest.mark.parametrize("backend", ["orbax", "msgpack"])
def test_model_state_round_trips(tmp_path, backend):
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.BatchNorm(3, rngs=nnx.Rngs(1)))
    graphdef, state = nnx.split(model)
    fx_ckpt.save(tmp_path / "model", state, backend=backend)
    restored = fx_ckpt.restore(tmp_path / "model", target=state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(state)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    x = np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(nnx.merge(graphdef, restored)(x), model(x))
