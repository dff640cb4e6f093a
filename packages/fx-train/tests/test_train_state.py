import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fx_core.serialization import from_state_dict, to_state_dict
from fx_train import StepState, TrainState
from fx_train.errors import ArgumentError, StateMismatchError
from fx_train.train_state import OVERWRITE_WITH_GRADIENT


class WithStats(TrainState):
    batch_stats: dict


def predict(params, x):
    return params["w"] * x


def make(cls=TrainState, params=None, **kwargs):
    params = {"w": jnp.array([1.0, 2.0])} if params is None else params
    return cls.create(apply_fn=predict, params=params, tx=optax.adam(0.1), **kwargs)


def test_apply_gradients_equals_the_optimizer_by_hand():
    state, grads = make(), {"w": jnp.array([0.5, -1.0])}
    tx, params = optax.adam(0.1), {"w": jnp.array([1.0, 2.0])}
    opt_state = tx.init(params)
    for _ in range(3):
        state = state.apply_gradients(grads=grads)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    assert state.step == 3
    np.testing.assert_array_equal(state.params["w"], params["w"])
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(opt_state)


def test_updates_return_a_new_state_and_take_extra_fields():
    state = make(WithStats, batch_stats={"mean": jnp.zeros(2)})
    new = state.apply_gradients(grads={"w": jnp.ones(2)}, batch_stats={"mean": jnp.ones(2)})
    assert state.step == 0
    np.testing.assert_array_equal(state.batch_stats["mean"], jnp.zeros(2))
    np.testing.assert_array_equal(new.batch_stats["mean"], jnp.ones(2))


def test_static_fields_are_no_leaves_and_jit_compiles_once():
    traced = []

    @jax.jit
    def step(state, grads):
        traced.append(None)
        return state.apply_gradients(grads=grads)

    state = make()
    assert all(isinstance(leaf, jax.Array | int) for leaf in jax.tree.leaves(state))
    state = state.replace(step=jnp.asarray(0))
    for _ in range(3):
        state = step(state, {"w": jnp.ones(2)})
    assert int(state.step) == 3
    assert len(traced) == 1


def test_overwritten_collection_takes_its_gradients_unchanged():
    params = {"params": {"w": jnp.ones(2)}, OVERWRITE_WITH_GRADIENT: {"scale": jnp.array(1.0)}}
    state = make(params=params)
    grads = {"params": {"w": jnp.ones(2)}, OVERWRITE_WITH_GRADIENT: {"scale": jnp.array(7.0)}}
    new = state.apply_gradients(grads=grads)
    assert float(new.params[OVERWRITE_WITH_GRADIENT]["scale"]) == 7.0
    plain = make(params={"w": jnp.ones(2)}).apply_gradients(grads={"w": jnp.ones(2)})
    np.testing.assert_array_equal(new.params["params"]["w"], plain.params["w"])
    assert len(jax.tree.leaves(new.opt_state)) == len(jax.tree.leaves(plain.opt_state))


def test_state_dictionary_round_trip_is_the_identity():
    state = make(WithStats, batch_stats={"mean": jnp.zeros(2)}).apply_gradients(grads={"w": jnp.ones(2)})
    restored = from_state_dict(state, to_state_dict(state))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(state)):
        np.testing.assert_array_equal(one, other)


def test_fields_cannot_be_assigned():
    with pytest.raises(AttributeError, match="replace"):
        make().step = 3


@pytest.mark.parametrize(
    ("tx", "text"),
    [
        (optax.adam, r"got: the function adam\n  what to do: Call it"),
        (0.1, r"got: 0\.1$"),
        (optax.GradientTransformation, "got: the function GradientTransformation"),
    ],
)
def test_an_optimizer_that_is_none(tx, text):
    for cls in (TrainState, StepState):
        with pytest.raises(ArgumentError, match=rf"{cls.__name__}\.create cannot work with this tx") as caught:
            cls.create(apply_fn=None, params={"w": jnp.ones(2)}, tx=tx)
        assert re.search(text, str(caught.value))


def test_whole_numbers_are_not_moved_by_fractions():
    params = {"w": jnp.ones(2), "table": jnp.arange(2)}
    for tx in (optax.sgd(0.1), optax.adamw(0.1)):
        state = TrainState.create(apply_fn=None, params=params, tx=tx)
        with pytest.raises(StateMismatchError, match=r"where: \['table'\]\n.*\n  got: int32"):
            state.apply_gradients(grads={"w": jnp.ones(2), "table": jnp.ones(2)})
        grads = jax.grad(lambda p: (p["w"] * p["table"]).sum(), allow_int=True)(params)
        new = state.apply_gradients(grads=grads)
        np.testing.assert_array_equal(new.params["table"], [0, 1])
        assert new.params["table"].dtype == jnp.int32
        assert not np.array_equal(new.params["w"], params["w"])


def test_whole_numbers_are_moved_by_whole_numbers():
    state = TrainState.create(apply_fn=None, params={"count": jnp.arange(2)}, tx=optax.identity())
    np.testing.assert_array_equal(state.apply_gradients(grads={"count": jnp.array([3, -1])}).params["count"], [3, 0])
