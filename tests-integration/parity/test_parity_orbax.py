"""What Flax writes with Orbax is read into our train states, optax states and NNX states."""

import flax.nnx
import flax.training.checkpoints as theirs
import fx_nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax.training.train_state import TrainState as TheirState
from fx_ckpt import checkpoints
from fx_train import TrainState

# What Flax and Orbax warn of in their own old functions.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Flax Checkpointing will soon be deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PARAMS = {"Dense_0": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}}
OPTIMIZERS = {
    "adam": optax.adam(1e-3),
    "sgd": optax.sgd(1e-2),
    "momentum": optax.sgd(1e-2, momentum=0.9),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    "masked": optax.masked(optax.adam(1e-3), {"Dense_0": {"kernel": True, "bias": False}}),
    "multi": optax.multi_transform(
        {"a": optax.adam(1e-3), "b": optax.set_to_zero()}, {"Dense_0": {"kernel": "a", "bias": "b"}}
    ),
}


def same(ours, expected):
    ours, expected = jax.tree.leaves(ours), jax.tree.leaves(expected)
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("with_orbax", [True, False])
def test_train_states(tmp_path, name, with_orbax):
    tx = OPTIMIZERS[name]
    state = TheirState.create(apply_fn=lambda x: x, params=PARAMS, tx=tx)
    state = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, PARAMS))
    flag = flax.config.flax_use_orbax_checkpointing
    flax.config.update("flax_use_orbax_checkpointing", with_orbax)
    try:
        theirs.save_checkpoint(tmp_path, state, 1)
    finally:
        flax.config.update("flax_use_orbax_checkpointing", flag)
    fresh = TrainState.create(apply_fn=lambda x: x, params=jax.tree.map(jnp.zeros_like, PARAMS), tx=tx)
    back = checkpoints.restore_checkpoint(tmp_path, fresh)
    assert jax.tree.structure(back.opt_state) == jax.tree.structure(fresh.opt_state)
    same((back.params, back.opt_state), (state.params, state.opt_state))
    assert back.step == 1
    plain = checkpoints.restore_checkpoint(tmp_path, None)
    same(plain["params"], state.params)


class Theirs(flax.nnx.Module):
    def __init__(self, rngs):
        self.layer = flax.nnx.Linear(2, 3, rngs=rngs)
        self.norm = flax.nnx.BatchNorm(3, rngs=rngs)
        self.more = flax.nnx.List([flax.nnx.Param(jnp.ones(2))])


class Ours(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(2, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.more = nnx.List([nnx.Param(jnp.zeros(2))])


@pytest.mark.parametrize("write", ["flax", "orbax"])
def test_states_of_modules(tmp_path, write):
    state = flax.nnx.state(Theirs(flax.nnx.Rngs(3)))
    if write == "flax":
        theirs.save_checkpoint(tmp_path, state, 1, orbax_checkpointer=ocp.PyTreeCheckpointer())
        place = tmp_path
    else:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "state", state)
        place = tmp_path / "state"
    model = Ours(nnx.Rngs(0))
    back = checkpoints.restore_checkpoint(place, nnx.state(model))
    assert isinstance(back, nnx.State)
    nnx.update(model, back)
    np.testing.assert_array_equal(model.layer.kernel[...], state["layer"]["kernel"][...])
    np.testing.assert_array_equal(model.more[0][...], [1, 1])
