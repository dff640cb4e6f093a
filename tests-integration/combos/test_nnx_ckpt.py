"""fx-nnx with fx-ckpt and its Orbax extra: a model and its state come back to the bit, whole and in part."""

import fx_ckpt
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fx_core.scope import DenyList


def make(seed):
    return nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(seed)), nnx.BatchNorm(3, rngs=nnx.Rngs(1)))


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("backend", ["orbax", "msgpack", "safetensors"])
def test_model_state_round_trips(tmp_path, backend):
    model = make(0)
    graphdef, state = nnx.split(model)
    fx_ckpt.save(tmp_path / "model", state, backend=backend)
    restored = fx_ckpt.restore(tmp_path / "model", target=state)
    same(restored, state)
    x = np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(nnx.merge(graphdef, restored)(x), model(x))


def test_a_model_is_a_tree_of_its_own(tmp_path):
    model = make(0)
    path = fx_ckpt.save(tmp_path / "model", model)
    restored = fx_ckpt.restore(path, make(1))
    assert isinstance(restored, nnx.Sequential)
    same(nnx.state(restored), nnx.state(model))


def test_variables_of_a_type_are_restored_and_others_stay(tmp_path):
    path = fx_ckpt.save(tmp_path / "model", nnx.state(make(0)))
    target = nnx.state(make(1))
    trained = fx_ckpt.restore(path, target, only=nnx.Param)
    same(nnx.filter_state(trained, nnx.Param), nnx.state(make(0), nnx.Param))
    rest = fx_ckpt.restore(path, jax.tree.map(lambda x: x + 7, target), only=DenyList(nnx.BatchStat))
    assert all(bool(jnp.all(x >= 7)) for x in jax.tree.leaves(nnx.filter_state(rest, nnx.BatchStat)))
